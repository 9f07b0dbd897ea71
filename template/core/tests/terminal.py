"""A process in a terminal, as a person uses it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 30


class Terminal:
    """A process in a separate terminal.

    Args:
        command: The command.
        folder: Its working directory.
        environment: Its environment.
        width: The number of characters in a line of the terminal.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        width: int = 80,
    ) -> None:
        self._keyboard, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            # Ctrl-C goes to the process of the session that owns the terminal.
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(terminal)

    def read_until(self, text: str) -> str:
        """Return what the process prints, up to and with this text."""
        shown = ""
        deadline = time.monotonic() + SECONDS
        while text not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in:\n{shown}"
            if select.select([self._keyboard], [], [], left)[0]:
                shown += os.read(self._keyboard, 1).decode(errors="replace")
        return shown.replace("\r", "")

    def press(self, key: str) -> None:
        os.write(self._keyboard, key.encode())

    def wait(self) -> int:
        """Read the rest of the output, and return the exit status."""
        self.read_rest()
        return self.process.wait(SECONDS)

    def read_rest(self) -> str:
        """Return what the process prints until its end."""
        shown = b""
        with suppress(OSError):  # the terminal of a process that has ended
            while part := os.read(self._keyboard, 1024):
                shown += part
        return shown.decode(errors="replace").replace("\r", "")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)
