"""The command line: processes, development, and commands about jobs and accounts."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn, TypeAlias

from core.errors import UserError
from core.supervised import tell_error

Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"

KINDS = ["task", "route", "model", "migration"]
ENDINGS = ["completed", "retried", "failed", "aborted"]


class _Parser(argparse.ArgumentParser):
    """A parser that reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. `{self.prog} --help` explains the options.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line arguments. Defaults to the arguments of this process.

    Returns:
        The exit status. After 2, a line on standard error says what was wrong.
    """
    chosen = _make_parser().parse_args(arguments)
    try:
        return _run(chosen)
    except UserError as error:
        problem = f"error: {error}"
        if not tell_error(problem):
            for handler in logging.getLogger().handlers:
                handler.flush()  # so that the error is the last line
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(chosen: argparse.Namespace) -> int:
    # Each command imports only the modules that it needs, so it starts fast.
    match chosen.command:
        case "setup":
            from core.dev.setup import write_env

            print(write_env())
            return 0
        case "dev":
            from core.dev.supervisor import run_development

            return asyncio.run(run_development(chosen.only))
        case "new":
            from core.dev.scaffold import create

            print(*create(chosen.kind, chosen.name), sep="\n")
            return 0
        case "web":
            return _run_process("web")
        case "worker":
            return _run_worker(chosen)
        case "shell":
            return _run_shell()
        case _:
            return _run_command(chosen)


def _run_process(name: str) -> int:
    from core.config import get_settings
    from core.process import run_web, run_worker
    from core.threads import leave_threads

    run = run_web if name == "web" else run_worker
    status = run(get_settings())
    leave_threads(status)
    return status


def _run_worker(chosen: argparse.Namespace) -> int:
    if chosen.concurrency:
        os.environ["TASK_CONCURRENCY"] = str(chosen.concurrency)
    if chosen.processes == 1 and chosen.max_jobs is None:
        return _run_process("worker")
    from core.config import get_settings
    from core.worker_processes import run_workers

    return run_workers(get_settings(), chosen.processes, chosen.max_jobs)


def _run_shell() -> int:
    from core.commands.shell import run_shell
    from core.config import get_settings
    from core.local_servers import use_running_servers
    from core.threads import leave_threads

    use_running_servers()
    status = run_shell(get_settings())
    leave_threads(status)
    return status


def _run_command(chosen: argparse.Namespace) -> int:
    from core.config import get_settings
    from core.local_servers import use_running_servers

    use_running_servers()
    if chosen.command == "migrate":
        from core.commands.migrate import run_migrate

        return run_migrate(chosen, get_settings())
    from core.commands.manage import run_command

    return run_command(chosen, get_settings())


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m core",
        description="Run the service, and manage its jobs and accounts.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("web", help="serve HTTP")
    _add_worker(commands)
    commands.add_parser("setup", help="write .env with a new secret key, unless it has one")
    _add_dev(commands)
    _add_new(commands)
    _add_migrate(commands)
    commands.add_parser("shell", help="open a Python shell in which the service is open")
    drain = commands.add_parser(
        "drain",
        help="wait until no job is left and MongoDB has all dead letters",
    )
    drain.add_argument(
        "--check",
        action="store_true",
        help="do not wait; exit with 1 if jobs are left",
    )
    _add_dead_letters(commands)
    _add_schedules(commands)
    _add_history(commands)
    admin = commands.add_parser("admin", help="make an administrator, with a new password")
    admin.add_argument("email", help="the account's email address")
    return parser


def _add_worker(commands: Commands) -> None:
    worker = commands.add_parser("worker", help="run jobs")
    for option, metavar, help_text in (
        ("--processes", "N", "the number of processes; defaults to 1"),
        ("--concurrency", "M", "jobs that each process runs at once; defaults to TASK_CONCURRENCY"),
        ("--max-jobs", "K", "replace a process that has run K jobs; by default none is replaced"),
    ):
        worker.add_argument(option, type=_positive, metavar=metavar, help=help_text)
    worker.set_defaults(processes=1)


def _add_dev(commands: Commands) -> None:
    dev = commands.add_parser(
        "dev",
        help="run servers, web and worker, and reload after changes",
    )
    dev.add_argument(
        "only",
        nargs="?",
        choices=["web", "worker"],
        help="run the servers and this process only",
    )


def _add_new(commands: Commands) -> None:
    new = commands.add_parser("new", help="write a new file, its registration and its test")
    new.add_argument("kind", choices=KINDS, help="what to write")
    new.add_argument("name", help="its name, such as send_invoice")


def _add_migrate(commands: Commands) -> None:
    migrate = commands.add_parser("migrate", help="apply the migrations in app/migrations")
    choice = migrate.add_mutually_exclusive_group()
    choice.add_argument(
        "--check",
        action="store_true",
        help="change nothing; exit with 1 if there are migrations to apply",
    )
    choice.add_argument(
        "--back",
        metavar="NAME",
        help="take back this migration and all newer ones",
    )


def _add_dead_letters(commands: Commands) -> None:
    parser = commands.add_parser("dead-letters", help="manage the jobs that failed for good")
    actions = parser.add_subparsers(dest="action", required=True)

    list_ = actions.add_parser(
        "list",
        help="print one line for each dead letter, newest first",
    )
    _add_limit(list_)
    _add_letter_filters(list_)

    show = actions.add_parser("show", help="print arguments, error and traceback")
    _add_letter_ids(show, "+")

    replay = actions.add_parser("replay", help="enqueue the jobs again")
    discard = actions.add_parser("discard", help="mark dead letters as discarded")
    for action in (replay, discard):
        _add_letter_ids(action)
        _add_letter_filters(action)
        action.add_argument(
            "--all",
            action="store_true",
            help="all dead letters that match the options",
        )


def _add_letter_ids(parser: argparse.ArgumentParser, number: str = "*") -> None:
    parser.add_argument("ids", nargs=number, metavar="ID", help="the id of a dead letter")


def _add_letter_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--error", help="only dead letters with this exception class")
    _add_filters(parser)


def _add_schedules(commands: Commands) -> None:
    parser = commands.add_parser("schedules", help="list, enable, disable or run schedules")
    parser.add_argument("action", choices=["list", "enable", "disable", "run"])
    parser.add_argument(
        "ids",
        nargs="*",
        metavar="ID",
        help="the id of a schedule; list defaults to all schedules",
    )


def _add_history(commands: Commands) -> None:
    parser = commands.add_parser(
        "history",
        help="print failures and runs of schedules, newest first",
    )
    parser.add_argument("--schedule", help="only runs of this schedule")
    parser.add_argument("--ended-as", choices=ENDINGS, help="only runs that ended in this way")
    _add_limit(parser)
    _add_filters(parser)


def _add_limit(parser: argparse.ArgumentParser) -> None:
    help_text = "the largest number of lines; defaults to %(default)s"
    parser.add_argument("--limit", type=_positive, default=100, help=help_text)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="only jobs of this task")
    parser.add_argument(
        "--since",
        type=_time,
        help="only from this time on, such as 2027-01-31",
    )
    parser.add_argument("--until", type=_time, help="only before this time")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        problem = f"{text!r} is not a valid time; write 2027-01-31 or 2027-01-31T12:00"
        raise argparse.ArgumentTypeError(problem) from None
