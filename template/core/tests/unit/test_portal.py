"""The way from plain functions to an event loop, on each kind of event loop."""

import asyncio
import threading
from contextvars import ContextVar

import pytest
import uvloop

from core.tasks.portal import Portal

user: ContextVar[str] = ContextVar("user")


async def describe() -> tuple[str, bool]:
    return user.get(), threading.current_thread() is threading.main_thread()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_coroutine_runs_in_the_context_of_its_caller(new_loop):
    async def make() -> Portal:
        portal = Portal()
        user.set("ada")
        assert await asyncio.to_thread(portal.run, describe) == ("ada", True)
        return portal

    with asyncio.Runner(loop_factory=new_loop) as runner:
        portal = runner.run(make())
        user.set("eve")
        # The event loop belongs to this thread, and does not run now.
        assert portal.run(describe) == ("eve", True)
