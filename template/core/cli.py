"""The command line: `python -m core web`, `worker`, `dev`, `setup`, and what a person does with jobs and accounts."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime

from core.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 2 where one line on standard error says what was wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m core", description="The processes of this service."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("web", help="serve HTTP")
    commands.add_parser("worker", help="run jobs")
    commands.add_parser("setup", help="write .env with fresh secrets, unless there is one")
    dev = commands.add_parser("dev", help="servers, web and worker for development, with reload")
    dev.add_argument(
        "only", nargs="?", choices=["web", "worker"], help="start just this one beside the servers"
    )
    commands.add_parser("drain", help="wait until no job is left in the queue")
    _add_dead_letters(commands)
    schedules = commands.add_parser(
        "schedules", help="what runs by itself: list, enable, disable, run now"
    )
    schedules.add_argument("action", choices=["list", "enable", "disable", "run"])
    schedules.add_argument(
        "ids", nargs="*", metavar="ID", help="of schedules; all where none is named for list"
    )
    history = commands.add_parser(
        "history", help="failures, and runs of schedules, the newest first"
    )
    history.add_argument("--schedule", help="those of this schedule")
    history.add_argument(
        "--ended-as",
        choices=["completed", "retried", "failed", "aborted"],
        help="those that ended so",
    )
    history.add_argument(
        "--limit", type=int, default=100, help="at most so many; 100 where nothing is said"
    )
    _add_filters(history)
    admin = commands.add_parser("admin", help="make an administrator; asks for their new password")
    admin.add_argument("email", help="the account's address")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(chosen: argparse.Namespace) -> int:
    # Imported late: no command waits for what only others need, and a wrong setting is told at once.
    if chosen.command == "setup":
        from core.dev.setup import write_env

        print(write_env())
        return 0
    if chosen.command == "dev":
        from core.dev.supervisor import run_development

        return asyncio.run(run_development(chosen.only))

    from core.config import get_settings

    if chosen.command not in ("web", "worker"):
        from core.commands import run_command
        from core.dev.servers import use_running_servers

        use_running_servers()
        return run_command(chosen, get_settings())
    from core.process import run_web, run_worker
    from core.threads import leave_threads

    status = {"web": run_web, "worker": run_worker}[chosen.command](get_settings())
    leave_threads(status)
    return status


def _add_dead_letters(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `dead-letters list | show | replay | discard`."""
    parser = commands.add_parser(
        "dead-letters", help="jobs that are not run any more: list, show, replay, discard"
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for action, what in (
        ("list", "one line each, the newest first"),
        ("show", "all of one: arguments, error, traceback"),
        ("replay", "enqueue their jobs again"),
        ("discard", "mark them as done with"),
    ):
        added = actions.add_parser(action, help=what)
        if action != "list":
            added.add_argument("ids", nargs="*", metavar="ID", help="of dead letters")
        if action != "show":
            added.add_argument("--error", help="those whose exception is of this type")
            _add_filters(added)
        if action in ("replay", "discard"):
            added.add_argument("--all", action="store_true", help="all that the options choose")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="those of this task")
    parser.add_argument("--since", type=_time, help="those of then or later, such as 2027-01-31")
    parser.add_argument("--until", type=_time, help="those of before")


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write 2027-01-31 or 2027-01-31T12:00"
        ) from None
