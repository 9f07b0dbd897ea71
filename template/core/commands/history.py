"""The commands about runs that have ended, and about jobs that are left."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.commands import output
from core.commands.options import Json, Limit, Since, Task, Until
from core.commands.running import run
from core.errors import UserError

if TYPE_CHECKING:
    from core.tasks import Worker

app = typer.Typer()

RUN_COLUMNS: output.Columns = {
    "STARTED": lambda run: output.format_time(run.started_at),
    "TASK": lambda run: run.task,
    "ENDED AS": lambda run: run.ended_as,
    "DURATION": lambda run: output.format_duration(run.seconds),
    "JOB": lambda run: run.job_id,
    "ERROR": lambda run: output.first_line(run.error),
}
DRAIN_SECONDS = 0.5
EXIT_JOBS_LEFT = 1
LEFT = """\
The queue still has jobs: {found}. If you disable the queue, they wait until you enable it again.
To run them first, start a worker and run `just drain`. To leave them in the queue, run:
just update --to current --defaults --data enable_job_queue=false"""

Schedule = Annotated[str | None, typer.Option(help="Only runs of this schedule.")]
Ending = Annotated[
    Literal["completed", "retried", "failed", "aborted"] | None,
    typer.Option("--ended-as", help="Only runs that ended in this way."),
]
OnlyCheck = Annotated[
    bool,
    typer.Option("--check", help="Do not wait; exit with 1 if jobs are left."),
]


@app.command("history")
def _history(
    schedule: Schedule = None,
    ended_as: Ending = None,
    limit: Limit = 100,
    task: Task = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> int:
    """Print failures and runs of schedules, newest first; other runs with --ended-as completed."""

    async def act(worker: "Worker") -> None:
        runs = await worker.history.list(
            task=task,
            schedule=schedule,
            ended_as=ended_as,
            since=since,
            until=until,
            limit=limit,
        )
        output.print_list(runs, RUN_COLUMNS, "No runs in the history match.", as_json)

    return run(act)


@app.command("drain")
def _drain(check: OnlyCheck = False) -> int:
    """Wait until no job is left and MongoDB has all dead letters."""

    async def act(worker: "Worker") -> int:
        if not worker.queue.engine.in_process:
            return await _wait(worker, check)
        if not check:
            raise UserError("the job queue is off, so there are no jobs to drain")
        return 0

    return run(act)


async def _wait(worker: "Worker", only_check: bool) -> int:
    shown = ""
    while True:
        line, is_empty = await _count_jobs(worker)
        if only_check and not is_empty:
            output.tell(LEFT.format(found=line))
            return EXIT_JOBS_LEFT
        if line != shown:
            print(line, flush=True)
            shown = line
        if is_empty:
            return 0
        await asyncio.sleep(DRAIN_SECONDS)


async def _count_jobs(worker: "Worker") -> tuple[str, bool]:
    """Return a line with the numbers of jobs in the queue, and whether it is empty."""
    stats = await worker.queue.engine.stats()
    stashed = await worker.dead_letters.count_stashed()
    line = f"{stats.pending} pending, {stats.running} running, {stats.scheduled} scheduled"
    if stashed:
        line += f", {stashed} dead letters to store"
    return line, not any((stats.pending, stats.running, stats.scheduled, stashed))
