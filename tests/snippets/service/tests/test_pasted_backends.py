"""The snippets of task-backends.md, on a real worker."""

import asyncio
from importlib import import_module
from pathlib import Path

import pytest

import app.pasted
from app.tasks import backends, limits
from core.tasks import InvalidArguments
from core.testing import eventually


def test_each_backend_is_configured():
    """Its module configures it. A service has the modules of its own engines."""
    names = [path.stem for path in Path(app.pasted.__file__).parent.glob("backend_*.py")]
    assert "backend_local" in names
    for name in names:
        import_module(f"app.pasted.{name}")


async def run(task, *arguments):
    job = await task.enqueue(*arguments)
    return await job.result(60)


async def test_backends(client, notes, completed, printed, running_worker):
    routes = asyncio.create_task(check_routes(client, printed))
    slow = run(backends.process_with_retry, {"fails": "call"})
    retried = completed(backends.robust_task, {"fails": "attempt"})
    dead = completed(backends.dlq_task, {"fails": "attempt"})
    monitored = completed(backends.monitored_task, {"fails": "attempt"})
    timed = completed(backends.timed_task, {"fails": "attempt"})
    results = await asyncio.gather(slow, retried, dead, monitored, timed)
    assert results == [{"fails": "call"}] + [{"fails": "attempt"}] * 4
    assert {
        "stored not now",
        "started monitored_task",
        "failed not now",
        "completed {'fails': 'attempt'}",
        "metric task_duration",
        "metric task_failure_duration",
    } <= set(notes())
    moved = await run(backends.dlq_task, {"fails": "attempt"}, 5)
    assert moved == {"status": "moved_to_dlq"}
    assert "dlq not now" in notes()
    await check_chain(notes)
    await check_single_tasks(notes)
    await routes


async def check_single_tasks(notes):
    update = backends.update_user_profile
    assert await run(update, 1, {"name": "Ada"}) == {"status": "updated"}
    assert await run(update, 1, {"name": "Ada"}) == {"status": "already_updated"}
    await run(backends.memory_efficient_task, list(range(250)))
    await run(backends.process_user_data, 7)
    parts = [line for line in notes() if line.startswith(("chunk", "fetched"))]
    assert parts == ["chunk 100", "chunk 100", "chunk 50", "fetched 7"]
    for task, *arguments in (
        (backends.process_payment, {"amount": 5}),
        (backends.generate_report, 7, "sales"),
        (backends.send_notification, 7, "hello"),
        (backends.do_everything, {"id": 7}),
        (backends.process_simple_data, {"id": 7}),
        (backends.process_complex_data, [{"id": 7}]),
        (limits.long_running_task,),
    ):
        assert await run(task, *arguments) is None
    with pytest.raises(InvalidArguments, match="process_complex_data"):
        await backends.process_complex_data.enqueue(object())  # there is no pickle


async def check_chain(notes):
    assert await run(backends.step_one, {}) == {"one": True}
    assert await eventually(lambda: "three {'one': True, 'two': True}" in notes())


async def check_routes(client, printed):
    mail = {"to": "a@example.com", "subject": "Hello", "body": "World"}
    assert (await client.post("/notifications", json=mail)).json() == {"status": "Email queued"}
    user = await client.post("/users", json={"name": "Ada"})
    assert user.json() == {"user_id": 7, "message": "User created"}
    upload = await client.post("/uploads", json={"file_path": "a.txt"})
    assert upload.json() == {"message": "File upload received"}

    def has_completed():
        lines = printed().splitlines()
        return any("job completed" in line and "send_email" in line for line in lines)

    await eventually(has_completed)
    await eventually(lambda: "Welcome email sent to user 7" in printed())
    await eventually(lambda: "File processed: a.txt" in printed())
