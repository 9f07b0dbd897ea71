"""Calls of hooks, and the hooks of `@worker.on_failure`, which get each final failure."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias

from anyio import CapacityLimiter

from core.cancelling import cancel_all
from core.context import TaskContext
from core.errors import UserError
from core.logging import get_logger
from core.tasks.records import StashedLetter
from core.tasks.time_limits import LimitedCall, Reason
from core.threads import run_in_thread

logger = get_logger(__name__)

Hook: TypeAlias = Callable[[Any], object]
"""A function with one argument. A plain function runs in a thread."""
HOOK_SECONDS = 10.0
END_SECONDS = 2.0
"""How long a worker that ends waits for its hooks."""
AT_ONCE = 20
MAX_WAITING = 1000
"""The largest number of failures that wait for slow hooks. Further ones are not passed on."""
MAX_THREADS = 100
"""The largest number of threads of plain hooks. A call that hangs keeps its thread."""

_failing: set[str] = set()
_in_threads: set[object] = set()


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A job that failed for good, without its arguments. Its texts mask sensitive values.

    Attributes:
        job_id: The job's id.
        task: The task's name, or None if the message cannot be read.
        error_type: The name of the exception's class.
        error: The exception's message.
        traceback: The exception's traceback.
        attempts: The number of attempts.
        correlation_id: The job's correlation id, or None.
        owner: The id of the user who enqueued the job, or None.
    """

    job_id: str
    task: str | None
    error_type: str
    error: str
    traceback: str
    attempts: int
    correlation_id: str | None
    owner: str | None


class FailureHooks:
    """Passes failures to hooks in the background."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = hooks
        self._running: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def note(self, letter: StashedLetter) -> None:
        """Pass a failure to the hooks, without waiting for them."""
        if self._hooks and len(self._running) >= MAX_WAITING:
            logger.warning("hooks are slow; a failure was not passed on", job_id=letter["job_id"])
        elif self._hooks:
            fields: Any = {name: letter.get(name) for name in JobFailure.__slots__}
            task = asyncio.create_task(self._pass(JobFailure(**fields)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Wait a short time for the hooks, and cancel the ones that are still running."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=END_SECONDS)
            await cancel_all(late)

    async def _pass(self, failure: JobFailure) -> None:
        with TaskContext.use(failure.correlation_id, failure.owner):
            async with self._slots:
                calls = (call_hook(hook, failure, HOOK_SECONDS) for hook in self._hooks)
                await asyncio.gather(*calls)


async def call_hook(hook: Hook, value: object, seconds: float) -> bool:
    """Call a hook with a time limit, and return whether it succeeded.

    The first failure of a hook is logged. Further ones are not, until a call succeeds.
    """
    name = name_hook(hook)
    call: LimitedCall[None] = LimitedCall(seconds, seconds)
    try:
        await call.run(_call(hook, value))
    except (Exception, asyncio.CancelledError) as error:
        if call.reason is Reason.STOP:
            raise
        late = call.reason and f"the hook took longer than {seconds:g} s"
        if name not in _failing:
            has_traceback = not (late or isinstance(error, UserError))
            logger.error("hook failed", hook=name, error=late or str(error), exc_info=has_traceback)
        _failing.add(name)
        return False
    _failing.discard(name)
    return True


def name_hook(hook: Any) -> str:
    """Return the name of a hook, which is the same in each process."""
    hook = getattr(hook, "func", hook)  # of a partial
    return f"{hook.__module__}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"


async def _call(hook: Hook, value: object) -> None:
    try:
        result = hook(value) if iscoroutinefunction(hook) else await _call_plain(hook, value)
        if isawaitable(result):
            await result
    except SystemExit as error:  # would end the process
        raise RuntimeError(f"the hook raised {error!r}") from error


async def _call_plain(hook: Hook, value: object) -> object:
    if len(_in_threads) >= MAX_THREADS:
        raise UserError("too many calls of hooks hang in threads")

    def call() -> object:
        token = object()
        _in_threads.add(token)
        try:
            return hook(value)
        finally:
            _in_threads.discard(token)

    # With anyio's own limiter, slow hooks would take the threads of the service's plain routes.
    return await run_in_thread(call, CapacityLimiter(1))
