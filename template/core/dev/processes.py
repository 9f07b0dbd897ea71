"""Child processes of `just dev`."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from typing import Any, TypeAlias

from core.config import ROOT

Process: TypeAlias = subprocess.Popen[bytes]

STOP_SECONDS = 35.0
"""A little more than the grace period of running jobs."""


def say(text: str) -> None:
    """Print a line about `just dev` itself.

    Args:
        text: The line.
    """
    with suppress(OSError):  # the terminal may have been closed
        print(f"dev | {text}", flush=True)


def spawn(module: str, *arguments: str, **options: Any) -> Process:
    """Start a Python module in the project's folder, as the leader of a process group.

    Args:
        module: The module's name.
        *arguments: The command line arguments.
        **options: Options of `subprocess.Popen`.
    """
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **options)


class Guard:
    """The guard process, which ends the children if the supervisor is killed."""

    def __init__(self) -> None:
        self._process = spawn("core.dev.guard", stdin=subprocess.PIPE)

    def watch(self, pid: int) -> None:
        """End a process group together with the supervisor.

        Args:
            pid: The id of the process that leads the group.
        """
        self._write(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """Do not end a process group, because its leader has ended.

        Args:
            pid: The id of the process that led the group.
        """
        self._write(f"-{pid}\n")

    def close(self) -> None:
        """Wait until the guard has ended every group that it watches."""
        self._process.communicate()

    def _write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


class Child:
    """A child process that the guard watches.

    Attributes:
        name: The name to print.
    """

    def __init__(self, name: str, guard: Guard) -> None:
        self.name = name
        self._guard = guard
        self._process: Process | None = None

    def watch(self, process: Process) -> None:
        """Take over a process that was just started.

        Args:
            process: The process, which leads a process group.
        """
        self._process = process
        self._guard.watch(process.pid)

    def take_status(self) -> int | None:
        """Return the exit status if the process has ended. It is returned once."""
        status = self._process.poll() if self._process else None
        if status is not None:
            self.forget()
        return status

    async def stop(self) -> None:
        """Terminate the process, and kill it if it does not end."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not stop within {STOP_SECONDS:.0f} s and was killed")
            process.kill()
            await asyncio.to_thread(process.wait)
        self.forget()

    def forget(self) -> None:
        """Stop watching the process, if there is one."""
        if self._process:
            self._guard.forget(self._process.pid)
            self._process = None
