"""Webhooks: delivered to a real receiver, which verifies them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook

from app.models.webhook import Subscription
from app.tasks.webhooks import deliver_webhook
from core.config import get_settings
from core.context import TaskContext
from core.models import AuditModel, UserModel
from core.services.webhooks import new_webhook_secret
from core.tasks import JobFailed, PermanentError, TransientError
from core.testing import eventually

PAYLOAD = {"id": "event-1", "type": "order.paid", "data": {"total": "€ 9"}}


class Receiver(ThreadingHTTPServer):
    """Answers with the statuses that it is told, then with 204, and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(
            ({name.lower(): value for name, value in self.headers.items()}, body)
        )
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.serve_forever, args=[0.01], daemon=True).start()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


@pytest.fixture
def development(settings, monkeypatch) -> None:
    """Where a receiver on this machine is allowed; ask for it before `client` and `running_worker`."""
    monkeypatch.setenv("ENVIRONMENT", "development")
    get_settings.cache_clear()


@pytest.fixture
def as_user(user) -> Iterator[None]:
    """What the test enqueues, `user` does."""
    with TaskContext.use(actor=str(user.id)):
        yield


async def subscribe(user: UserModel, url: str) -> None:
    await Subscription(owner=str(user.id), url=url, events=[], secret=new_webhook_secret()).insert()


async def test_events_reach_whoever_has_subscribed(
    development, client, signed_in, receiver, running_worker
):
    receiver.statuses = [500]
    subscribed = (
        await client.post("/webhooks", json={"url": receiver.url, "events": ["order.paid"]})
    ).json()
    listed = (await client.get("/webhooks")).json()
    assert listed == [
        {"id": subscribed["id"], "url": receiver.url, "events": ["order.paid"]}
    ]  # without its secret

    ignored = await client.post("/events", json={"type": "order.sent"})
    assert ignored.json()["job_ids"] == []
    event = {"type": "order.paid", "data": {"order": 7}}
    published = await client.post("/events", json=event, headers={"X-Request-ID": "paid-1"})
    assert published.status_code == 202
    assert len(published.json()["job_ids"]) == 1
    await eventually(lambda: len(receiver.received) == 2)
    first, second = receiver.received  # the first answer was a 500
    assert first[1] == second[1]
    headers, body = second
    assert Webhook(subscribed["secret"]).verify(body, headers)["data"] == {"order": 7}
    assert headers["webhook-id"] == first[0]["webhook-id"] == published.json()["event_id"]
    assert headers["x-request-id"] == "paid-1"

    assert (await client.delete(f"/webhooks/{subscribed['id']}")).status_code == 204
    assert (await client.post("/events", json=event)).json()["job_ids"] == []
    entries = await AuditModel.find(AuditModel.action == "webhook.subscribed").to_list()
    assert [entry.details["url"] for entry in entries] == [receiver.url]


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, PermanentError),
        (404, PermanentError),
        (302, PermanentError),
        (429, TransientError),
        (503, TransientError),
    ],
)
async def test_what_is_tried_again(development, user, as_user, receiver, status, raised):
    receiver.statuses = [status]
    await subscribe(user, receiver.url)
    with pytest.raises(raised, match=f"answered {status}"):
        await deliver_webhook(receiver.url, PAYLOAD)
    assert len(receiver.received) == 1  # no redirect is followed


async def test_a_receiver_that_is_away_is_tried_again(development, user, as_user):
    await subscribe(user, "http://127.0.0.1:1/hook")
    job = await deliver_webhook.enqueue("http://127.0.0.1:1/hook", PAYLOAD)

    async def second_attempt() -> bool:
        return (await job.record()).attempt > 1

    await eventually(second_attempt)


async def test_who_has_not_subscribed_gets_nothing(development, db, user, receiver):
    await subscribe(
        user, receiver.url
    )  # but on somebody else's behalf there is no such subscription
    assert await deliver_webhook(receiver.url, PAYLOAD) == {
        "status": "skipped",
        "reason": "not_subscribed",
    }
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080/", "http://localhost/", "http://169.254.169.254/", "http://[::1]/"],
)
async def test_this_machine_is_no_target(client, signed_in, user, as_user, url):
    response = await client.post("/webhooks", json={"url": url})
    assert response.status_code == 422
    assert "not on the public internet" in response.json()["detail"]
    await subscribe(user, url)  # as if its name had led elsewhere then
    job = await deliver_webhook.enqueue(url, PAYLOAD)
    with pytest.raises(JobFailed, match="not on the public internet"):
        await job.result(timeout=10)


@pytest.mark.parametrize("data", [b'"\\ud800"', b"[" * 300 + b"]" * 300], ids=["no text", "deep"])
async def test_what_cannot_travel_is_refused(client, signed_in, user, data):
    await subscribe(user, "http://8.8.8.8/hook")
    content = b'{"type": "order.paid", "data": {"a": %s}}' % data
    response = await client.post(
        "/events", content=content, headers={"content-type": "application/json"}
    )
    assert response.status_code == 422


async def test_subscriptions_are_their_owners_and_few(
    client, signed_in, stranger, development, receiver
):
    responses = [
        await client.post("/webhooks", json={"url": f"{receiver.url}{number}"})
        for number in range(21)
    ]
    assert [response.status_code for response in responses] == [201] * 20 + [409]
    first = f"/webhooks/{responses[0].json()['id']}"
    assert (await stranger.delete(first)).status_code == 404
    assert (await stranger.get("/webhooks")).json() == []
    assert (await stranger.post("/events", json={"type": "order.paid"})).json()["job_ids"] == []
    assert (await client.delete("/webhooks/nothing")).status_code == 404
    assert (await client.delete(first)).status_code == 204
    again = [await client.post("/webhooks", json={"url": f"{receiver.url}1"}) for _ in range(2)]
    assert [response.status_code for response in again] == [409, 409]
    client.cookies.clear()
    assert (await client.delete(first)).status_code == 401
