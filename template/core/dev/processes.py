"""Child processes of `just dev`: started, watched and ended as one."""

import asyncio
import subprocess
import sys

STOP_SECONDS = 35.0
"""A little more than the grace period of running jobs."""


def say(text: str) -> None:
    """A line of the supervisor's own."""
    print(f"dev | {text}", flush=True)


class Guard:
    """The process that ends the children when this one is killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "core.dev.guard"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def watch(self, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        """End this process too, should the supervisor be killed. It leads a process group of its own."""
        self._tell(f"+{process.pid}")
        return process

    def forget(self, process: "subprocess.Popen[bytes]") -> None:
        """It has ended."""
        self._tell(f"-{process.pid}")

    def close(self) -> None:
        """End the guard, and what it still watches."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


async def stop_process(process: "subprocess.Popen[bytes]", guard: Guard) -> None:
    """Ask a process to end, and kill it where it does not."""
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, STOP_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"process {process.pid} did not stop within {STOP_SECONDS:.0f} s and was killed")
        process.kill()
        await asyncio.to_thread(process.wait)
    guard.forget(process)


class Process:
    """Web or worker, which are started again after each change."""

    def __init__(self, name: str, guard: Guard) -> None:
        self.name = name
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "core", self.name]
        self._process = self._guard.watch(subprocess.Popen(command, start_new_session=True))

    async def stop(self) -> None:
        if self._process:
            await stop_process(self._process, self._guard)

    def report_end(self) -> None:
        """Say once where it ended by itself; the next change starts it again."""
        if self._process and self._process.poll() is not None:
            say(
                f"{self.name} ended with status {self._process.returncode}; it starts again after the next change"
            )
            self._guard.forget(self._process)
            self._process = None
