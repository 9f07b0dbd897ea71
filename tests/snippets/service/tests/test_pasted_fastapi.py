"""The snippets of fastapi-background-tasks.md."""

from app.pasted import fastapi_many, fastapi_patterns
from core.models import AuditModel
from tests.test_webhooks import development, receiver, subscribe


async def call(client, method, path, expected, **options):
    response = await client.request(method, path, **options)
    assert (response.status_code, response.json()) == (200, expected)


async def test_background_tasks(client, notes, capsys):
    await call(client, "POST", "/basic/tasks?title=Test", {"message": "Created"})
    await call(
        client, "POST", "/basic/notify?email=a@example.com", {"message": "Notification queued"}
    )
    await call(client, "POST", "/basic/process", {"message": "Processing started"})
    # Like plain FastAPI, the route cannot answer `[...]`, and then runs no background task.
    assert (await client.get("/basic/items")).status_code == 500
    await call(client, "GET", "/basic/no-items", {"items": []})
    await call(client, "POST", "/many/tasks", {"message": "Created with 4 background tasks"})
    assert capsys.readouterr().out.splitlines() == [
        "Log: Created: Test",
        "Processed: some data",
        "Log: Request received",
        "Log: Task created",
    ]
    assert notes() == ["index 1", "notification 2", "analytics task_created"]


async def test_errors(client, notes, caplog):
    await call(client, "POST", "/errors/risky", None)
    assert "Task failed: broken" in caplog.text
    assert notes() == ["behind the risky task"]


async def test_the_order(notes):
    await fastapi_many.run_in_order()
    assert notes() == ["a", "b", "c"]


async def test_patterns(signed_in, notes):
    await call(
        signed_in,
        "POST",
        "/patterns/orders",
        {"order_id": 7},
        json={"customer_email": "a@example.com"},
    )
    await call(
        signed_in,
        "POST",
        "/patterns/upload",
        {"status": "Processing started"},
        files={"file": ("a.txt", b"a")},
    )
    assert notes() == ["confirmed 7 a@example.com", "processed /uploads/a.txt"]


async def test_audit_entry(signed_in, user):
    headers = {"X-Request-ID": "delete-7"}
    await call(
        signed_in, "DELETE", "/patterns/users/7", {"message": "Deleted"}, headers=headers
    )
    (entry,) = await AuditModel.find_all().to_list()
    assert (entry.action, entry.correlation_id) == ("user_deleted", "delete-7")
    assert (entry.subject, entry.actor) == ("7", str(user.id))


async def test_webhooks(development, signed_in, user, receiver):
    await subscribe(user, receiver.url)
    fastapi_patterns.subscriber_webhooks.append(receiver.url)
    event = {"id": "e-1", "kind": "paid"}
    await call(signed_in, "POST", "/patterns/events", {"event_id": "e-1"}, json=event)
    ((headers, body),) = receiver.received
    assert (headers["webhook-id"], body) == ("e-1", b'{"id": "e-1", "kind": "paid"}')
