"""The command line: `python -m core web | worker | dev | setup`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from core.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 2 where one line on standard error says what was wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m core", description="The processes of this service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("web", help="serve HTTP")
    commands.add_parser("worker", help="run jobs")
    commands.add_parser("setup", help="write .env with fresh secrets, unless there is one")
    dev = commands.add_parser("dev", help="servers, web and worker for development, with reload")
    dev.add_argument("only", nargs="?", choices=["web", "worker"], help="start just this one beside the servers")
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

    settings = get_settings()
    from core.process import leave_threads, run_web, run_worker

    status = {"web": run_web, "worker": run_worker}[chosen.command](settings)
    leave_threads(status)
    return status
