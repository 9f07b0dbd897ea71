"""The web process and the worker, which `just dev` starts, watches and stops together."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

from core.dev.processes import Child, Guard, say, spawn
from core.supervised import STARTED, VARIABLE

REPORT_LENGTH = 100_000
NOTICE_SECONDS = 1.0
"""A process that needs longer to stop is reported."""


class CoreProcess(Child):
    """The web or worker process. It reports that it has started, or why it ended."""

    def __init__(self, name: str, guard: Guard) -> None:
        super().__init__(name, guard)
        self._report: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        if self._report:
            self._report.close()
        self._report = tempfile.TemporaryFile()  # noqa: SIM115  # read until the next start
        number = self._report.fileno()
        variables = {**os.environ, VARIABLE: str(number)}
        self.watch(spawn("core", self.name, env=variables, pass_fds=[number]))

    @property
    def description(self) -> str | None:
        """The line for people with which the process reported that it has started."""
        first, _, _ = self._read().partition("\n")
        return first.removeprefix(STARTED) if first.startswith(STARTED) else None

    @property
    def error(self) -> str:
        """The error that ended the process; empty if it has reported none."""
        text = self._read()
        if text.startswith(STARTED):
            _, _, text = text.partition("\n")
        return text

    def _read(self) -> str:
        if self._report is None:
            return ""
        # Both processes share the offset, so reading must not move it.
        return os.pread(self._report.fileno(), REPORT_LENGTH, 0).decode()


class CoreProcesses:
    """The processes of one `just dev`.

    Args:
        processes: The processes. When all have started, the line of the first one is printed.
    """

    def __init__(self, processes: Sequence[CoreProcess]) -> None:
        self._processes = processes
        self._names = [process.name for process in processes]
        self._starting: set[CoreProcess] = set()
        self._ended: dict[str, str] = {}
        self._errors: set[str] = set()

    async def restart(self) -> None:
        """Stop the running processes, and start each process as soon as its old one has ended."""
        self._starting = set(self._processes)
        self._ended.clear()
        self._errors.clear()
        await asyncio.gather(*map(self._restart, self._processes))

    async def _restart(self, process: CoreProcess) -> None:
        stopping = asyncio.create_task(process.stop())
        _, pending = await asyncio.wait([stopping], timeout=NOTICE_SECONDS)
        if pending:
            say(f"{process.name:<8} finishes its work before it starts again")
        await stopping
        process.start()

    async def stop(self) -> None:
        """Terminate the processes."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    def report(self) -> None:
        """Print news: errors, processes that have ended, or that all processes have started.

        An error that several processes report is printed once.
        """
        were_starting = bool(self._starting)
        for process in self._processes:
            status = process.take_status()
            if status is not None:
                self._note_end(process, status)
            elif process.description:
                self._starting.discard(process)
        if self._starting:
            return  # they may end soon, too, and one line then names all
        if self._ended:
            self._say_ended()
        elif were_starting:
            first = self._processes[0]
            say(f"{first.name:<8} {first.description}")

    def _note_end(self, process: CoreProcess, status: int) -> None:
        self._starting.discard(process)
        error = process.error
        if error and error not in self._errors:
            self._errors.add(error)
            print(error, file=sys.stderr, flush=True)
        self._ended[process.name] = "" if error else f" (status {status})"

    def _say_ended(self) -> None:
        ended = [name + self._ended[name] for name in self._names if name in self._ended]
        start = "they start" if len(ended) > 1 else "it starts"
        say(f"{' and '.join(ended)} ended; {start} again after the next change")
        self._ended.clear()
