"""The snippets of `core/docs/` work. Those that name a file are written to it before."""

import ast
import dataclasses
import inspect
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from app.models.cached import Cached
from app.models.order import Order
from app.models.session import Session
from app.services.order_events import announce_order
from app.tasks.alerts import post_to_chat
from app.tasks.caching import refresh_orders
from app.tasks.imports import import_orders
from app.tasks.worker import worker
from core.tasks import Alert, ScheduleOptions, TaskOptions
from core.testing import eventually

PAGE = Path("core/docs/coming-from.md").read_text()
OPTIONS = Path("core/docs/options.md").read_text()
NAMES, DELETION = re.findall(r"^```python\n(?!# \S+\.py\n)(.*?)^```$", PAGE, re.M | re.S)


async def execute(snippet):
    names = {}
    code = compile(snippet, "coming-from.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.iscoroutine(result := eval(code, names)):
        await result
    return names


async def test_coming_from(client, user):
    names = await execute(NAMES)
    assert names["background"] == worker.task
    (view,) = [view for view in await worker.schedules.list() if view.id == "send_reminders"]
    assert (view.enabled, view.next_run.hour) == (False, 9)

    await announce_order("order-1", "to be")

    async def is_counted():
        return "orders_exported_total 1.0" in (await client.get("/metrics")).text

    assert await eventually(is_counted)

    order = {"product": "Pen", "quantity": 1, "price": "1.50"}
    order = await Order(owner="1", **order).insert()
    await refresh_orders()
    assert (await Cached.get(f"order:{order.id}")).value["product"] == "Pen"
    indexes = await Cached.get_pymongo_collection().index_information()
    assert "expireAfterSeconds" in indexes["expires_at_1"]

    assert await (await import_orders.enqueue()).result(30) == "completed"
    job = await import_orders.enqueue(seconds=60)
    assert await job.result(30) == "stopped before the end"


async def test_an_alert_is_posted(db, monkeypatch):
    requests = []

    def answer(request):
        requests.append(request)
        return httpx2.Response(204)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    monkeypatch.setattr(worker.context, "http_client", client)
    now = datetime.now(UTC)
    alert = Alert("1", "backlog", "default", "The workers do not keep up", "12 jobs", "/console", now, True)
    await post_to_chat(alert)
    text = "Ended: The workers do not keep up\n12 jobs\n/console"
    assert [json.loads(request.content) for request in requests] == [{"text": text}]
    assert post_to_chat in worker._alert_hooks


async def test_deleting_rows(db, user):
    session = Session(token_hash="1", user_id=user.id, expires_at="2020-01-01T00:00:00Z")
    await session.insert()
    names = await execute(DELETION)
    assert names["result"].deleted_count == 1


def rows(section):
    """Return the options of a table, with the text of their defaults."""
    table = OPTIONS.split(f"## {section}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| `(.+?)` \|.*\| (.+) \|$", table, re.M)
    return {name: default for names, default in cells for name in names.split("`, `")}


def test_the_options_are_complete():
    written = rows("Tasks")
    assert written.pop("name")
    fields = {field.name: field.default for field in dataclasses.fields(TaskOptions)}
    assert written.keys() == fields.keys()
    for name, default in fields.items():
        if default is not None:
            assert written[name].strip("`") in (repr(default), f'"{default}"')

    using = inspect.signature(worker.tasks["count_words"].using).parameters
    assert rows("One job").keys() == using.keys()
    assert rows("Schedules").keys() == ScheduleOptions.__annotations__.keys()
