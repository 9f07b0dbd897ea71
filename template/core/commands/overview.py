"""The commands about the whole service: workers and figures."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from core.commands import output
from core.commands.options import Json
from core.commands.running import read_settings, run

if TYPE_CHECKING:
    from core.tasks import Worker
    from core.tasks.statistics import TaskFigures

app = typer.Typer()

NO_WORKERS = "No worker is alive. Start one with `just worker`, or with `just dev`."
WORKER_COLUMNS: output.Columns = {
    "ID": lambda worker: worker.id,
    "HOST": lambda worker: worker.host,
    "PID": lambda worker: str(worker.pid),
    "VERSION": lambda worker: worker.version,
    "RUNNING": lambda worker: f"{worker.running_count} of {worker.concurrency}",
    "STARTED": lambda worker: output.format_time(worker.started_at),
    "HEARTBEAT": lambda worker: output.format_time(worker.seen_at),
}
TASK_COLUMNS: output.Columns = {
    "TASK": lambda row: row["task"],
    "COMPLETED": lambda row: str(row["completed"]),
    "FAILED": lambda row: str(row["failed"]),
    "RETRIED": lambda row: str(row["retried"]),
    "ABORTED": lambda row: str(row["aborted"]),
    "PER MINUTE": lambda row: f"{row['per_minute']:.1f}",
    "P95": lambda row: output.format_duration(row["p95_seconds"]),
    "P95 WAIT": lambda row: output.format_duration(row["p95_wait_seconds"]),
}
PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@app.command("workers")
def _workers(as_json: Json = False) -> int:
    """Print one line for each worker that is alive."""

    async def act(worker: "Worker") -> None:
        found = await worker.workers()
        output.print_list(found, WORKER_COLUMNS, NO_WORKERS, as_json)

    return run(act)


@app.command("stats")
def _stats(as_json: Json = False) -> int:
    """Print the numbers of jobs, and the rates and durations of tasks in the last hour and day."""

    async def act(worker: "Worker") -> None:
        figures = await _read(worker)
        if as_json:
            output.print_json(figures)
        else:
            _print_figures(figures)

    return run(act)


async def _read(worker: "Worker") -> dict[str, Any]:
    now = datetime.now(UTC)
    tasks = {}
    for name, length in PERIODS.items():
        (period,) = await worker.statistics.read(now - length)
        minutes = (now - period.start) / timedelta(minutes=1)  # a day begins at a full hour
        tasks[name] = [_make_row(each, minutes) for each in period.tasks.values()]
    jobs = await worker.jobs.count()
    workers = len(await worker.workers())
    is_off = worker.queue.engine.in_process
    return {
        "jobs": {state: number for state, number in jobs.items() if state.is_final or not is_off},
        **({} if is_off else await _read_queue(worker, workers)),
        "dead_letters": await worker.dead_letters.count(),
        "workers": workers,
        "tasks": tasks,
    }


async def _read_queue(worker: "Worker", workers: int) -> dict[str, Any]:
    from core.tasks.backlog import judge_backlog

    verdict = await judge_backlog(worker.queue.engine, read_settings())
    return {
        "oldest_seconds": verdict.stats.oldest,
        "dead_letters_stashed": await worker.dead_letters.count_stashed(),
        "is_late": verdict.is_late,
        "backlog": verdict.text if workers else NO_WORKERS,
    }


def _make_row(figures: "TaskFigures", minutes: float) -> dict[str, Any]:
    return {
        "task": figures.task,
        "completed": figures.completed,
        "failed": figures.failed,
        "retried": figures.retried,
        "aborted": figures.aborted,
        "per_minute": figures.runs / minutes,
        "p95_seconds": figures.duration(0.95),
        "p95_wait_seconds": figures.wait(0.95),
    }


def _print_figures(figures: dict[str, Any]) -> None:
    tasks = figures.pop("tasks")
    print(figures.pop("backlog", output.QUEUE_OFF))
    figures.pop("is_late", None)  # the sentence above says it, and how old the oldest job is
    figures.pop("oldest_seconds", None)
    counts = {**figures.pop("jobs"), **figures}
    columns: output.Columns = {"JOBS": lambda row: row[0], "NUMBER": lambda row: row[1]}
    rows = [(name.replace("_", " "), f"{value:,}") for name, value in counts.items()]
    output.print_list(rows, columns, "", as_json=False)
    for name, figures_of_tasks in tasks.items():
        print(f"\nThe last {name}")
        output.print_list(figures_of_tasks, TASK_COLUMNS, "No job ran.", as_json=False)
