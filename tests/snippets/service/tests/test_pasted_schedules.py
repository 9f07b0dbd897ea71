"""The snippets of scheduled-tasks.md, on a real worker."""

from datetime import UTC, datetime, timedelta

import anyio.to_thread
import pytest

from app.tasks import taskplugins
from app.tasks.worker import worker
from core.testing import eventually


def create_test_logs() -> None: ...


def count_logs() -> int:
    return 0


async def failing_task() -> None:
    raise ValueError

# paste: scheduled-tasks.md, Testing Tasks


async def test_scheduled_tasks(db, notes, capsys, running_worker):
    waiting = await taskplugins.sync_with_api.enqueue()
    await check_triggers()
    job_id = await worker.schedules.run_now("cleanup_old_logs")
    assert await worker.job(job_id).result(30) is None
    declared = {definition["id"]: definition for definition in taskplugins.TASK_DEFINITIONS}
    for name, definition in declared.items():
        options = worker.tasks[name].options
        assert (options.max_retries, options.timeout) == (
            definition["max_retries"],
            definition["timeout"],
        )
    views = {view.id: view for view in await worker.schedules.list()}
    manual = views["cleanup_logs"]
    assert (manual.task, manual.next_run) == ("cleanup_old_logs", views["cleanup_old_logs"].next_run)
    await anyio.to_thread.run_sync(show_status)
    shown = capsys.readouterr().out
    assert "cleanup_old_logs: completed\n  Last run: 20" in shown
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert f"  Next run: {tomorrow} 00:00:00+00:00" in shown
    assert "send_daily_reports: None\n  Last run: None\n  Next run: 20" in shown
    assert await waiting.result(60) == "data"


def show_status():
    """Call from a thread."""
    # paste: scheduled-tasks.md, Task Status


async def check_triggers():
    """`next_run` is the time that the literals of the document give."""
    async def runs():
        views = {view.id: view for view in await worker.schedules.list()}
        found = [views[f"trigger-{number}"].next_run for number in range(7)]
        return found[-1] is None and found[:-1]  # 2024-12-25 is over

    hourly, each_minute, daily, monday, quarters, two_hours = await eventually(runs)
    now = datetime.now(UTC)
    assert timedelta() < hourly - now <= timedelta(hours=1)
    assert (each_minute.second, each_minute - now <= timedelta(minutes=1)) == (0, True)
    assert (daily.hour, daily.minute, daily - now <= timedelta(days=1)) == (9, 0, True)
    assert (monday.hour, monday.minute, monday.weekday()) == (9, 0, 0)
    assert (quarters.minute % 15, quarters - now <= timedelta(minutes=15)) == (0, True)
    assert (two_hours.hour % 2, two_hours.minute) == (0, 0)


async def test_practices(db, notes, caplog):
    caplog.set_level("INFO")
    await taskplugins.monitored_task()
    await taskplugins.robust_task()
    await taskplugins.task_with_timeout()
    await taskplugins.idempotent_task()
    await taskplugins.idempotent_task()
    assert notes() == ["processing"]
    await taskplugins.well_logged_task()
    for line in (
        "Task completed: work",
        "Task timed out",
        "Already processed, skipping",
        "Failed to process bad: bad item",
        "Task complete: 1 processed, 1 errors",
    ):
        assert line in caplog.text
