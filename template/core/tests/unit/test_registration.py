"""Tasks, arguments and options that are refused: most of them before any job exists."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest
from pydantic import SecretStr

from core.tasks import InvalidArguments, InvalidTask, Sensitive


async def test_an_invalid_task_is_refused_when_the_worker_opens(worker, settings):
    @worker.task
    async def fine() -> None: ...

    with pytest.raises(InvalidTask, match="two tasks are named fine"):
        worker.task(name="fine")(fine.function)

    @worker.task
    async def anything(*values: int) -> None: ...

    with pytest.raises(InvalidTask, match="name each parameter"):
        async with worker.open(settings):
            pass

    del worker.tasks["anything"]

    @worker.task
    async def secret(password: SecretStr) -> None: ...

    with pytest.raises(InvalidTask, match="would arrive as asterisks"):
        async with worker.open(settings):
            pass


async def test_a_result_cannot_be_sensitive(worker, settings):
    @worker.task
    async def make() -> Sensitive[str]:
        return "tok-5ecret"

    with pytest.raises(InvalidTask, match="a result is stored in plain text"):
        async with worker.open(settings):
            pass


async def test_wrong_arguments_raise_an_error_that_names_the_parameter(worker, settings):
    @worker.task
    async def greet(name: str, times: int) -> None: ...

    async with worker.open(settings):
        with pytest.raises(InvalidArguments, match=r"greet: parameter times: .*integer"):
            await greet.enqueue("Ada", "often")
        with pytest.raises(InvalidArguments, match="greet: missing a required argument: 'times'"):
            await greet.enqueue("Ada")
        unexpected = "greet: got an unexpected keyword argument 'loud'"
        with pytest.raises(InvalidArguments, match=unexpected):
            await greet.enqueue("Ada", 1, loud=True)
        with pytest.raises(InvalidArguments, match="greet: the arguments cannot be kept as JSON"):
            await greet.enqueue("\ud800", 1)


async def test_invalid_options_are_refused(worker, settings):
    @worker.task
    async def plain() -> None: ...

    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: plain.using(priority="urgent").enqueue(),
        lambda: plain.using(job_id="a b").enqueue(),
        lambda: plain.using(delay=1, run_at=datetime.now()).enqueue(),
        lambda: plain.enqueue(scheduled_at="tomorrow"),
    ]
    async with worker.open(settings):
        for enqueue in refused:
            with pytest.raises(InvalidArguments, match="task plain: "):
                await enqueue()
    with pytest.raises(InvalidArguments, match="priority is one of low, normal, high"):
        worker.task(name="other", priority="urgent")(plain.function)
