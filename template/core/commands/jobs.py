"""The commands about single jobs."""

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from core.commands import output
from core.commands.dead_letters import LETTER_COLUMNS, describe
from core.commands.options import Json, Limit, ListByDefault, Since, Task
from core.commands.running import audited, run
from core.errors import UserError

if TYPE_CHECKING:
    from core.tasks import JobDetails, JobRecord, JobSummary, Worker

app = typer.Typer(name="jobs", cls=ListByDefault, help="List, show, watch and abort jobs.")

JOB_COLUMNS: output.Columns = {
    "ID": lambda job: job.id,
    "TASK": lambda job: job.task,
    "STATE": lambda job: job.state,
    "OWNER": lambda job: job.owner or "",
    "ATTEMPT": lambda job: str(job.attempt),
    "WORKER": lambda job: job.worker or "",
    "SINCE": lambda job: output.format_time(job.at),
    "ERROR": lambda job: output.first_line(job.error),
}
ENDED = ("completed", "failed", "aborted")
TIMES = {"scheduled": "DUE", **dict.fromkeys(ENDED, "ENDED")}
"""The heading of the time for the jobs of a state. It is `SINCE` for all other states."""
TIMELINE_COLUMNS: output.Columns = {
    "ENDED AS": lambda run: run.ended_as,
    "ATTEMPT": lambda run: str(run.attempt),
    "WORKER": lambda run: run.worker or "",
    "STARTED": lambda run: output.format_time(run.started_at),
    "DURATION": lambda run: output.format_duration(run.seconds),
    "ERROR": lambda run: output.first_line(run.error),
}
WATCH_SECONDS = 0.2
EXIT_NOT_COMPLETED = 1
EXIT_NOT_ABORTED = 1

State = Annotated[
    Literal["pending", "scheduled", "running", "completed", "failed", "aborted"] | None,
    typer.Option(help="Only jobs in this state; by default all unfinished jobs."),
]
Owner = Annotated[str | None, typer.Option(metavar="ID", help="Only jobs of this user.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a job.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="The id of a job.")]


@app.command("list")
def _list(
    state: State = None,
    task: Task = None,
    owner: Owner = None,
    since: Since = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> int:
    """Print one line for each job."""

    async def act(worker: "Worker") -> None:
        jobs: list[JobSummary] = []
        for each in [state] if state else ["running", "pending", "scheduled"]:
            jobs += await _browse(worker, each, limit - len(jobs), task, owner, since)
        time = TIMES.get(state or "", "SINCE")
        columns = {time if name == "SINCE" else name: make for name, make in JOB_COLUMNS.items()}
        if_empty = "No jobs match." if any((state, task, owner, since)) else "No jobs."
        if worker.queue.engine.in_process and state not in ENDED:
            if_empty += f" {output.QUEUE_OFF}"
        output.print_list(jobs, columns, if_empty, as_json)

    return run(act)


async def _browse(worker: "Worker", state: str, limit: int, *filters: Any) -> "list[JobSummary]":
    """Return jobs of a state. It reads several pages, because a page may be short."""
    from core.tasks import JobStatus

    task, owner, since = filters
    jobs: list[JobSummary] = []
    after = None
    while len(jobs) < limit:
        page = await worker.jobs.browse(
            state=JobStatus(state),
            task=task,
            owner=owner,
            since=since,
            after=after,
            limit=limit - len(jobs),
        )
        jobs += page.jobs
        after = page.after
        if after is None:
            break
    return jobs


@app.command("show")
def _show(job_id: Id, as_json: Json = False) -> int:
    """Print a job with its runs, its chain and its dead letters."""

    async def act(worker: "Worker") -> None:
        details = await worker.jobs.get(job_id)
        if details is None:
            raise _not_found(job_id)
        letters = [describe(letter) for letter in details.dead_letters]
        if as_json:
            parts = {"runs": details.runs, "chain": details.chain, "dead_letters": letters}
            output.print_json({"job": details.summary, **parts})
        else:
            _print_details(details, letters)

    return run(act)


def _print_details(details: "JobDetails", letters: list[dict[str, Any]]) -> None:
    fields = asdict(details.summary)
    fields["progress"] = _describe_progress(details.record)
    fields["duration"] = output.format_duration(fields.pop("seconds")) or None
    output.print_fields(fields)
    for title, items, columns in (
        ("Timeline", details.runs, TIMELINE_COLUMNS),
        ("Chain", details.chain, JOB_COLUMNS),
        ("Dead letters", letters, LETTER_COLUMNS),
    ):
        if items:
            print(f"\n{title}")
            output.print_list(items, columns, "", as_json=False)


@app.command("watch")
def _watch(job_id: Id) -> int:
    """Show the progress of a job until it has ended; exit with 0 if it has completed."""

    async def act(worker: "Worker") -> int:
        details = await worker.jobs.get(job_id)
        if details is None:
            raise _not_found(job_id)
        state, error = details.summary.state, details.summary.error
        if not state.is_final:
            record = await _follow(worker, job_id)
            state = record.status
            error = record.error and f"{record.error['type']}: {record.error['message']}"
        reason = f": {output.clean(output.first_line(error))}" if error else ""
        print(f"job {job_id} {state}{reason}")
        return 0 if state == "completed" else EXIT_NOT_COMPLETED

    return run(act)


async def _follow(worker: "Worker", job_id: str) -> "JobRecord":
    """Show a job's progress until the job has ended or is unknown. Return its last record."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    hidden = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden) as bar:
        shown = bar.add_task(job_id, total=None)
        while True:
            record = await worker.job(job_id).record()
            text = f"{record.task} {record.status} {_describe_progress(record) or ''}"
            bar.update(shown, description=output.clean(text))
            if record.progress:
                done, total = record.progress.done, record.progress.total
                bar.update(shown, completed=done, total=total)
            if record.status.is_final or record.status == "unknown":
                return record
            await asyncio.sleep(WATCH_SECONDS)


def _describe_progress(record: "JobRecord") -> str | None:
    progress = record.progress
    if progress is None:
        return None
    message = progress.message.replace("\n", " ")
    return f"{progress.done:g} of {progress.total:g} {message}".rstrip()


@app.command("abort")
def _abort(ids: Ids) -> int:
    """Abort jobs; exit with 1 if one of them was not aborted."""

    async def act(worker: "Worker") -> int:
        states = []
        async with audited("job.aborted", ids) as changed:
            for job_id in ids:
                state = await worker.jobs.abort(job_id)
                changed.count += state == "aborted"
                print(f"job {job_id} {ABORTS.get(state, f'had already ended: {state}')}")
                states.append(state)
        return EXIT_NOT_ABORTED if {*states} - {"aborted"} else 0

    return run(act)


ABORTS = {
    "aborted": "aborted",
    "running": "is still running; its worker is cancelling it",
    "unknown": "is not known, or ended too long ago",
}


def _not_found(job_id: str) -> UserError:
    return UserError(f"there is no job {job_id}, or it ended too long ago")
