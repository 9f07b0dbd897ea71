"""The command line. It finds the command, and reports an error in one line."""

import errno
import logging
import os
import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from core.commands import (
    accounts,
    dead_letters,
    doctor,
    history,
    jobs,
    overview,
    processes,
    schedules,
)
from core.errors import UserError
from core.supervised import tell_error

PROGRAM = "python -m core"
HELP = "Run the service, and manage its jobs and accounts."
PARTS = (
    processes,
    jobs,
    dead_letters,
    schedules,
    history,
    overview,
    doctor,
    accounts,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line arguments. Defaults to the arguments of this process.

    Returns:
        The exit status. With 2, a line on standard error says what was wrong.
    """
    # Not `app()`, which would install a hook that prints the variables of a traceback.
    command = get_command(_make_app())
    try:
        status = command.main(arguments, PROGRAM, standalone_mode=False) or 0
        sys.stdout.flush()
        return status
    except typer.TyperException as error:
        return _report(_explain(error))
    except UserError as error:
        return _report(str(error))
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Python writes the rest of the output at its end, and would fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _report("the output cannot be written, because the disk is full.")


def _make_app() -> typer.Typer:
    # In a pipe the help is plain text.
    app = typer.Typer(
        help=HELP,
        add_completion=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
    )
    for part in PARTS:
        app.add_typer(part.app)
    return app


def _explain(error: typer.TyperException) -> str:
    """Return what is wrong with a command line, in one line."""
    words = error.format_message().replace("Value error, ", "").split()
    text = " ".join(words).removesuffix(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    end = "" if text.endswith("?") else "."
    return f"{text[:1].lower()}{text[1:]}{end} `{path} --help` explains the options."


def _report(problem: str) -> int:
    line = f"error: {problem}"
    if not tell_error(line):
        for handler in logging.getLogger().handlers:
            handler.flush()  # so that the error is the last line
        print(line, file=sys.stderr)
    return 2
