"""The commands that run the processes of the service, and change its files."""

import asyncio
import os
from typing import Annotated, Literal

import typer

from core.commands.running import read_settings

app = typer.Typer()

Processes = Annotated[int, typer.Option(min=1, metavar="N", help="The number of processes.")]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="M",
        help="Jobs that each process runs at once; defaults to TASK_CONCURRENCY.",
    ),
]
MaxJobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="K",
        help="Replace a process that has run K jobs; by default none is replaced.",
    ),
]
Back = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Take back this migration and all newer ones."),
]
CheckMigrations = Annotated[
    bool,
    typer.Option("--check", help="Change nothing; exit with 1 if there are migrations to apply."),
]
Kind = Literal["task", "route", "model", "migration"]
Process = Literal["web", "worker"]
Only = Annotated[
    Process | None,
    typer.Argument(
        metavar="PROCESS", help="web or worker: run only this process, and the servers."
    ),
]


@app.command("web")
def _web() -> int:
    """Serve HTTP."""
    return _run_process("web")


@app.command("worker")
def _worker(
    processes: Processes = 1,
    concurrency: Concurrency = None,
    max_jobs: MaxJobs = None,
) -> int:
    """Run jobs."""
    if concurrency:
        os.environ["TASK_CONCURRENCY"] = str(concurrency)
    if processes == 1 and max_jobs is None:
        return _run_process("worker")
    from core.config import get_settings
    from core.worker_processes import run_workers

    return run_workers(get_settings(), processes, max_jobs)


def _run_process(name: str) -> int:
    from core.config import get_settings
    from core.process import run_web, run_worker
    from core.threads import leave_threads

    run = run_web if name == "web" else run_worker
    status = run(get_settings())
    leave_threads(status)
    return status


@app.command("shell")
def _shell() -> int:
    """Open a Python shell in which the service is open."""
    from core.commands.shell import run_shell
    from core.threads import leave_threads

    status = run_shell(read_settings())
    leave_threads(status)
    return status


@app.command("migrate")
def _migrate(check: CheckMigrations = False, back: Back = None) -> int:
    """Apply the migrations in app/migrations."""
    if check and back:
        raise typer.BadParameter("--check and --back exclude each other")
    from core.commands.migrate import run_migrate

    return run_migrate(read_settings(), check, back)


@app.command("setup")
def _setup() -> None:
    """Write .env with a new secret key, unless it has one."""
    from core.dev.setup import write_env

    print(write_env())


@app.command("dev")
def _dev(only: Only = None) -> int:
    """Run servers, web and worker, and reload after changes."""
    from core.dev.supervisor import run_development

    return asyncio.run(run_development(only))


@app.command("new")
def _new(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="task, route, model or migration.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as send_invoice.")],
) -> None:
    """Write a new file, its registration and its test."""
    from core.dev.scaffold import create

    print(*create(kind, name), sep="\n")
