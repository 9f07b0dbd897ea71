"""A Python shell in which the service is open."""

import ast
import asyncio
import code
import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FunctionType
from typing import Any

from anyio.from_thread import BlockingPortal

from core.config import Settings
from core.entry import Service, load_service, open_service_sync
from core.errors import UserError
from core.local_servers import FOLDER
from core.logging import configure_logging

HISTORY = FOLDER / "shell-history"

Names = dict[str, Any]
"""The objects that the code in the shell finds by name."""


class Console(code.InteractiveConsole):
    """A console that takes `await`. Coroutines run on the event loop of the service.

    Plain code runs in the thread of the console, where no event loop runs. It can therefore
    enqueue jobs without `await`, and Ctrl-C interrupts it.

    Args:
        names: The namespace of the code.
        portal: The way to the event loop of the service.
    """

    def __init__(self, names: Names, portal: BlockingPortal) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._names = names
        self._loop = portal.call(asyncio.get_running_loop)

    def runcode(self, code: CodeType) -> None:
        """Run one statement, and show the exception that it raises.

        Args:
            code: The compiled statement.
        """
        try:
            value = FunctionType(code, self._names)()
            if inspect.iscoroutine(value):
                self._wait_for(value)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.write(self._describe(error))

    def _wait_for(self, coroutine: Any) -> None:
        # Not `portal.call`: Ctrl-C may interrupt it before the coroutine could be cancelled.
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _describe(self, error: BaseException) -> str:
        """Return a traceback that begins at the statement."""
        steps = error.__traceback__
        while steps and steps.tb_frame.f_code.co_filename != self.filename:
            steps = steps.tb_next
        if isinstance(error, UserError):
            steps = None
        lines = traceback.format_exception(type(error), error, steps)
        return "".join(lines)


def run_shell(settings: Settings) -> int:
    """Read and run statements until Ctrl-D.

    Args:
        settings: The service's settings.

    Returns:
        The exit status.
    """
    quiet = settings.model_copy(update={"log_level": "WARNING"})
    configure_logging(quiet, "shell")
    service = load_service(settings)
    names = _find_names(service, settings)
    tasks = len(service.worker.tasks)
    documents = len(service.all_documents())
    banner = (
        f"worker, settings, {tasks} tasks and {documents} documents are available by name. "
        "Use `await`, or `task.enqueue_sync(...)`. Ctrl-D ends."
    )
    with open_service_sync() as portal, _readline(names):
        Console(names, portal).interact(banner, exitmsg="")
    return 0


def _find_names(service: Service, settings: Settings) -> Names:
    documents = {document.__name__: document for document in service.all_documents()}
    return {
        **documents,
        **service.worker.tasks,
        "worker": service.worker,
        "settings": settings,
    }


@contextmanager
def _readline(names: Names) -> Iterator[None]:
    """Complete names with the tab key, and keep the history in `.dev/`."""
    try:
        import readline
        import rlcompleter
    except ImportError:  # this Python was built without readline
        yield
        return
    completer = rlcompleter.Completer(names)

    def complete(text: str, state: int) -> str | None:
        found = completer.complete(text, state)
        # A task is callable, but `task.` is more likely to follow than `task(`.
        return found.rstrip("()") if found else None

    readline.set_completer(complete)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    with suppress(OSError):
        readline.read_history_file(HISTORY)
    try:
        yield
    finally:
        with suppress(OSError):
            HISTORY.parent.mkdir(exist_ok=True)
            readline.write_history_file(HISTORY)
