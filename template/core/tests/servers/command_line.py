"""A process that runs commands of the service, one after another.

Most of a command's time goes into importing the service. In this process that happens once.
"""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass

from core.commands.main import main
from core.config import get_settings


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    output: str
    errors: str


class CommandLine:
    """The process, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, typed: str) -> Done:
        """Run `python -m core ...` in the environment of this process.

        Args:
            *arguments: The command's arguments.
            typed: The command's standard input.
        """
        assert self._process.stdin
        assert self._process.stdout
        request = {"arguments": arguments, "typed": typed, "environment": dict(os.environ)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve() -> None:
    """Run each command that a line of standard input describes, and write how it ended."""
    replies = sys.stdout
    for line in sys.stdin:
        request = json.loads(line)
        done = run_command(**request)
        print(json.dumps(asdict(done)), file=replies, flush=True)


def run_command(arguments: list[str], typed: str, environment: dict[str, str]) -> Done:
    os.environ.clear()
    os.environ.update(environment)
    get_settings.cache_clear()
    output, errors = io.StringIO(), io.StringIO()
    terminal, sys.stdin = sys.stdin, io.StringIO(typed)
    try:
        with redirect_stdout(output), redirect_stderr(errors):
            status = main(arguments)
    finally:
        sys.stdin = terminal
    return Done(status, output.getvalue(), errors.getvalue())


if __name__ == "__main__":
    serve()
