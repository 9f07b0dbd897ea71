"""The commands about schedules."""

from typing import TYPE_CHECKING, Annotated

import typer

from core.commands import output
from core.commands.options import Json, ListByDefault
from core.commands.running import audited, report_job, run

if TYPE_CHECKING:
    from core.tasks import ScheduleView, Worker

app = typer.Typer(
    name="schedules", cls=ListByDefault, help="List, enable, disable or run schedules."
)

Id = Annotated[list[str], typer.Argument(metavar="ID", help="The id of a schedule.")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="The id of a schedule; by default all are listed."),
]


def _state(view: "ScheduleView") -> str:
    if view.problem:
        return "broken"
    return "enabled" if view.enabled else "disabled"


COLUMNS: output.Columns = {
    "ID": lambda view: view.id,
    "STATE": _state,
    "NEXT RUN": lambda view: output.format_time(view.next_run),
    "LAST RUN": lambda view: output.format_time(view.last_run),
    "STATUS": lambda view: view.status or "",
    "TRIGGER": lambda view: view.trigger,
    "REMARK": lambda view: ": ".join(filter(None, [view.name, view.problem])),
}


@app.command("list")
def _list(ids: Ids = None, as_json: Json = False) -> int:
    """Print one line for each schedule."""

    async def act(worker: "Worker") -> None:
        views = await worker.schedules.list()
        chosen = [view for view in views if not ids or view.id in ids]
        output.print_list(chosen, COLUMNS, "No schedules.", as_json)

    return run(act, needs_tasks=True)


@app.command("run")
def _run(ids: Id) -> int:
    """Enqueue the jobs of schedules now."""

    async def act(worker: "Worker") -> None:
        async with audited("schedule.started", ids) as changed:
            for schedule_id in ids:
                job_id = await worker.schedules.run_now(schedule_id)
                changed.count += 1
                await report_job(worker, f"{schedule_id} runs as", job_id)

    return run(act, needs_tasks=True)


@app.command("enable")
def _enable(ids: Id) -> int:
    """Let schedules fire at their times again."""
    return _switch("enabled", ids)


@app.command("disable")
def _disable(ids: Id) -> int:
    """Stop schedules from firing until they are enabled again."""
    return _switch("disabled", ids)


def _switch(state: str, ids: list[str]) -> int:
    async def act(worker: "Worker") -> None:
        schedules = worker.schedules
        switch = schedules.enable if state == "enabled" else schedules.disable
        async with audited(f"schedule.{state}", ids) as changed:
            for schedule_id in ids:
                await switch(schedule_id)
                changed.count += 1
                print(f"{schedule_id} {state}")

    return run(act, needs_tasks=True)
