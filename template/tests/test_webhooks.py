"""Webhooks: events, delivered to a real receiver that verifies the signatures."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from app.models.webhook import Event, Subscription
from app.services.subscriptions import MIN_FAILURES, note_failure, note_success
from app.settings import app_settings
from app.tasks.webhooks import (
    IN_ALL,
    PER_RECEIVER,
    PER_USER,
    cleanup_old_deliveries,
    deliver_event,
    deliver_webhook,
    send_webhook_switched_off,
)
from app.tasks.worker import worker
from core.config import get_settings
from core.context import TaskContext
from core.models import AuditModel, DeadLetterModel, RunModel, UserModel
from core.services.limits import Limits
from core.services.webhooks import new_webhook_secret
from core.tasks import JobFailed, PermanentError, RetryAfter, TransientError
from core.testing import eventually

PAYLOAD = {"id": "event-1", "type": "order.paid", "data": {"total": "€ 9"}}
EVENT = {"type": "order.paid", "data": {"order": 7}}
UNREACHABLE = "http://127.0.0.1:1/hook"


class Receiver(ThreadingHTTPServer):
    """Answers with `statuses`, then with 204, and records each request.

    While `answers` is not set, it keeps all requests waiting.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.answers = threading.Event()
        self.answers.set()
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        self.server.paths.append(self.path)
        self.server.received.append((headers, body))
        self.server.answers.wait()
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if statuses else 204)
        self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    threading.Thread(target=receiver.serve_forever, args=[0.01], daemon=True).start()
    yield receiver
    receiver.answers.set()
    receiver.shutdown()
    receiver.server_close()


@pytest.fixture
def development(settings, monkeypatch) -> None:
    """Allow receivers on this machine. List it before `client` and `running_worker`."""
    monkeypatch.setenv("ENVIRONMENT", "development")
    get_settings.cache_clear()


@pytest.fixture
def patient(monkeypatch) -> None:
    """Let deliveries wait for their receiver as long as it takes. List it first."""
    for module in ("targets", "webhooks"):
        monkeypatch.setattr(f"core.services.{module}.TIMEOUT_SECONDS", 600)


@pytest.fixture
def as_user(user) -> Iterator[None]:
    """Enqueue the test's jobs on behalf of `user`."""
    with TaskContext.use(actor=str(user.id)):
        yield


async def subscribe(user: UserModel, url: str, **fields: object) -> Subscription:
    subscription = Subscription(
        owner=str(user.id),
        url=url,
        events=[],
        secret=new_webhook_secret(),
        **fields,
    )
    return await subscription.insert()


async def store_event(user: UserModel) -> str:
    event = Event(
        id=uuid4().hex,
        owner=str(user.id),
        payload=json.dumps(PAYLOAD),
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    return (await event.insert()).id


async def sign_up(number: int) -> UserModel:
    user = UserModel(email=f"{number}@example.com", display_name="Bob", password_hash="none")
    return await user.insert()


async def publish_slow(user: UserModel, url: str, count: int) -> None:
    """Enqueue deliveries to a receiver on behalf of a user."""
    await subscribe(user, url)
    event_id = await store_event(user)
    with TaskContext.use(actor=str(user.id)):
        await deliver_event.enqueue_many([[url, event_id]] * count)


async def test_a_subscription_is_listed_and_deleted(development, client, signed_in, receiver):
    form = {"url": receiver.url, "events": ["order.paid"]}
    created = (await client.post("/webhooks", json=form)).json()
    assert created.pop("secret").startswith("whsec_")
    assert created == {"id": created["id"], "switched_off_at": None, **form}
    assert (await client.get("/webhooks")).json() == [created]
    ignored = await client.post("/events", json={"type": "order.sent"})
    assert ignored.json()["job_ids"] == []

    assert (await client.delete(f"/webhooks/{created['id']}")).status_code == 204
    assert (await client.post("/events", json=EVENT)).json()["job_ids"] == []
    entries = await AuditModel.find(AuditModel.action == "webhook.subscribed").to_list()
    assert [entry.details["url"] for entry in entries] == [receiver.url]


async def test_an_event_is_delivered_after_a_failure(
    development, client, signed_in, receiver, running_worker
):
    receiver.statuses = [500]
    form = {"url": receiver.url, "events": ["order.paid"]}
    subscription = (await client.post("/webhooks", json=form)).json()

    response = await client.post("/events", json=EVENT, headers={"X-Request-ID": "paid-1"})
    assert response.status_code == 202
    published = response.json()
    assert len(published["job_ids"]) == 1
    await eventually(lambda: len(receiver.received) == 2)
    (first_headers, first_body), (headers, body) = receiver.received
    assert first_body == body
    assert Webhook(subscription["secret"]).verify(body, headers)["data"] == {"order": 7}
    assert headers["webhook-id"] == first_headers["webhook-id"] == published["event_id"]
    assert headers["x-request-id"] == "paid-1"


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
async def test_the_status_decides_about_a_retry(
    development, user, as_user, receiver, status, raised
):
    receiver.statuses = [status]
    await subscribe(user, receiver.url)
    with pytest.raises(raised, match=f"answered {status}"):
        await deliver_webhook(receiver.url, PAYLOAD)
    assert len(receiver.received) == 1  # no redirect is followed


async def test_an_unreachable_receiver_is_retried(development, user, as_user):
    await subscribe(user, UNREACHABLE)
    job = await deliver_event.enqueue(UNREACHABLE, await store_event(user))

    async def second_attempt() -> bool:
        return (await job.record()).attempt > 1

    await eventually(second_attempt)


async def test_another_users_subscription_gets_no_event(development, db, user, receiver):
    await subscribe(user, receiver.url)
    skipped = {"status": "skipped", "reason": "not_subscribed"}
    assert await deliver_webhook(receiver.url, PAYLOAD) == skipped
    with TaskContext.use(actor="000000000000000000000000"):
        assert await deliver_webhook(receiver.url, PAYLOAD) == skipped
    assert receiver.received == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/",
        "http://localhost/",
        "http://169.254.169.254/",
        "http://[::1]/",
    ],
)
async def test_private_addresses_are_refused(client, signed_in, user, as_user, url):
    response = await client.post("/webhooks", json={"url": url})
    assert response.status_code == 422
    assert "not on the public internet" in response.json()["detail"]
    # A name may lead to another address after the subscription, so the job checks it again.
    await subscribe(user, url)
    job = await deliver_event.enqueue(url, await store_event(user))
    with pytest.raises(JobFailed, match="not on the public internet"):
        await job.result(timeout=30)


@pytest.mark.parametrize(
    "data",
    [b'"\\ud800"', b'{"\\ud800": 1}', b"NaN", b"1e999"],
    ids=["invalid text", "invalid name", "not a number", "infinite"],
)
async def test_an_event_that_cannot_be_encoded_is_refused(client, signed_in, user, data):
    await subscribe(user, UNREACHABLE)
    content = b'{"type": "order.paid", "data": {"a": %s}}' % data
    headers = {"content-type": "application/json"}
    response = await client.post("/events", content=content, headers=headers)
    assert response.status_code == 422
    assert await Event.count() == 0


async def test_a_large_event_is_refused(client, signed_in):
    event = {"type": "order.paid", "data": {"text": "a" * 8 * 1024}}
    assert (await client.post("/events", json=event)).status_code == 413


async def test_subscriptions_are_private(client, signed_in, stranger, development, receiver):
    created = (await client.post("/webhooks", json={"url": receiver.url})).json()
    address = f"/webhooks/{created['id']}"
    assert (await stranger.delete(address)).status_code == 404
    assert (await stranger.get("/webhooks")).json() == []
    assert (await stranger.post("/events", json={"type": "order.paid"})).json()["job_ids"] == []
    assert (await client.delete("/webhooks/nothing")).status_code == 404
    client.cookies.clear()
    assert (await client.delete(address)).status_code == 401


async def test_subscriptions_are_limited(client, signed_in, development, receiver):
    responses = []
    for number in range(21):
        response = await client.post("/webhooks", json={"url": f"{receiver.url}{number}"})
        responses.append(response)
    assert [response.status_code for response in responses] == [201] * 20 + [409]
    assert "20 subscriptions" in responses[-1].json()["detail"]

    first = responses[0].json()
    assert (await client.delete(f"/webhooks/{first['id']}")).status_code == 204
    again = await client.post("/webhooks", json={"url": first["url"]})
    assert again.status_code == 201


async def test_requests_of_webhooks_are_limited(client, signed_in, monkeypatch):
    once = Limits("1 per hour", "100 per hour")
    monkeypatch.setattr("app.routes.webhooks.SUBSCRIBING", once)
    monkeypatch.setattr("app.routes.webhooks.PUBLISHING", once)
    private = {"url": "http://127.0.0.1/hook"}
    for path, form, status in (("/webhooks", private, 422), ("/events", EVENT, 202)):
        responses = [await client.post(path, json=form) for _ in range(2)]
        assert [response.status_code for response in responses] == [status, 429]


async def test_a_long_url_is_refused(client, signed_in):
    response = await client.post("/webhooks", json={"url": "http://127.0.0.1/" + "a" * 500})
    assert response.status_code == 422
    assert "at most 500 characters" in response.json()["detail"][0]["msg"]


async def test_a_url_is_subscribed_once(client, signed_in, development, receiver):
    form = {"url": receiver.url}
    responses = [await client.post("/webhooks", json=form) for _ in range(2)]
    assert [response.status_code for response in responses] == [201, 409]
    assert "already subscribed" in responses[1].json()["detail"]
    assert len((await client.get("/webhooks")).json()) == 1


async def test_an_event_is_stored_once(client, signed_in, user, settings):
    response = await client.post("/events", json=EVENT)
    assert await Event.count() == 0  # nobody wants it

    for number in range(20):
        await subscribe(user, f"http://127.0.0.1/{number}")
    response = await client.post("/events", json=EVENT)
    (event,) = await Event.find_all().to_list()
    assert event.id == response.json()["event_id"]
    assert len(response.json()["job_ids"]) == 20
    kept = event.expires_at - datetime.now(UTC)
    assert timedelta(days=2) < kept <= timedelta(seconds=app_settings.event_retention)


async def test_a_delivery_that_failed_is_replayed(
    development, client, signed_in, receiver, running_worker
):
    receiver.statuses = [404]
    subscription = (await client.post("/webhooks", json={"url": receiver.url})).json()
    published = (await client.post("/events", json=EVENT)).json()

    async def find_letter() -> DeadLetterModel | None:
        return await DeadLetterModel.find_one()

    letter = await eventually(find_letter)
    assert letter
    assert "order" not in letter.arguments  # the event is not stored again
    await worker.dead_letters.replay(letter.id)
    await eventually(lambda: len(receiver.received) == 2)
    (_, first_body), (headers, body) = receiver.received
    assert (body, headers["webhook-id"]) == (first_body, published["event_id"])
    Webhook(subscription["secret"]).verify(body, headers)


async def test_an_event_that_has_expired_is_not_sent(
    development, user, as_user, stranger, receiver
):
    await subscribe(user, receiver.url)
    skipped = {"status": "skipped", "reason": "event_not_found"}
    assert await deliver_event(receiver.url, "nothing") == skipped
    # Nor is another user's.
    event_id = await store_event(await sign_up(1))
    assert await deliver_event(receiver.url, event_id) == skipped
    assert receiver.received == []


async def test_a_receiver_that_never_answers_holds_few_slots(
    patient, development, user, receiver, mailbox
):
    receiver.answers.clear()
    for number in range(20):
        await publish_slow(user, f"{receiver.url}/{number}", 1)
    await eventually(lambda: len(receiver.received) == PER_RECEIVER.concurrency)
    # Other receivers get the slots that the user has left.
    others = [receiver.url.replace("127.0.0.1", name) for name in ("localhost", "127.1")]
    for other in others:
        await publish_slow(user, other, 20)
    await eventually(lambda: len(receiver.received) == PER_USER.concurrency)
    job = await send_webhook_switched_off.enqueue(str(user.id), receiver.url)
    assert (await job.result(timeout=30))["status"] == "sent"
    assert len(receiver.received) == PER_USER.concurrency


async def test_users_do_not_wait_for_each_others_deliveries(patient, development, user, receiver):
    receiver.answers.clear()
    await publish_slow(user, receiver.url, 20)
    await eventually(lambda: len(receiver.received) == PER_RECEIVER.concurrency)
    # On the same host. The deliveries before it get no further slot.
    other = f"{receiver.url}/other"
    await publish_slow(await sign_up(1), other, 1)
    await eventually(lambda: len(receiver.received) == PER_RECEIVER.concurrency + 1)
    assert "/hook/other" in receiver.paths[-1]


async def test_many_users_leave_slots_for_emails(
    patient, development, user, settings, receiver, mailbox
):
    assert deliver_event.options.priority == "low"  # so that an email overtakes them
    assert IN_ALL.concurrency < settings.task_concurrency
    receiver.answers.clear()
    names = ["127.0.0.1", "localhost", "127.1"]
    for number in range(8):
        sender = await sign_up(number)
        for name in names:
            await publish_slow(sender, receiver.url.replace("127.0.0.1", name), 8)
    await eventually(lambda: len(receiver.received) == IN_ALL.concurrency)
    job = await send_webhook_switched_off.enqueue(str(user.id), receiver.url)
    assert (await job.result(timeout=30))["status"] == "sent"
    assert len(receiver.received) == IN_ALL.concurrency


async def test_a_failing_receiver_gets_a_pause(development, user, as_user, receiver):
    receiver.statuses = [500, 500]
    subscription = await subscribe(user, receiver.url)
    for raised in (TransientError, TransientError, RetryAfter):
        with pytest.raises(raised):
            await deliver_webhook(receiver.url, PAYLOAD)
    assert len(receiver.received) == 2

    await subscription.set({Subscription.retry_at: datetime.now(UTC)})
    await deliver_webhook(receiver.url, PAYLOAD)
    assert len(receiver.received) == 3
    await subscription.sync()
    assert (subscription.failures, subscription.retry_at) == (0, None)


async def test_a_success_counts_whatever_other_deliveries_do(development, user):
    working = await subscribe(user, UNREACHABLE)
    assert not await note_failure(working)
    await note_success(working)  # the request began before the failure
    current = await Subscription.get(working.id)
    assert current
    assert (current.failures, current.failing_since) == (0, None)

    long_ago = datetime.now(UTC) - timedelta(days=app_settings.webhook_failing_days)
    await current.set({"failures": MIN_FAILURES, "failing_since": long_ago})
    failing = await Subscription.get(working.id)
    assert failing
    await note_success(failing)
    assert not await note_failure(failing)  # the request began before the success
    await current.sync()
    assert (current.failures, current.failing_since, current.retry_at) == (0, None, None)


async def test_a_receiver_that_failed_for_days_is_switched_off(
    development, client, signed_in, user, as_user, receiver, mailbox
):
    receiver.statuses = [500, 500]
    days = timedelta(days=app_settings.webhook_failing_days)
    subscription = await subscribe(
        user,
        receiver.url,
        failures=MIN_FAILURES,
        failing_since=datetime.now(UTC) - days + timedelta(minutes=1),
    )
    with pytest.raises(TransientError):  # not yet
        await deliver_webhook(receiver.url, PAYLOAD)
    await subscription.sync()
    assert subscription.switched_off_at is None

    await subscription.set({"failing_since": datetime.now(UTC) - days, "retry_at": None})
    with pytest.raises(TransientError):
        await deliver_webhook(receiver.url, PAYLOAD)
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["To"] == user.email
    for kind in ("html", "plain"):
        assert receiver.url in mail.get_body((kind,)).get_content()
    (view,) = (await client.get("/webhooks")).json()
    assert view["switched_off_at"]

    skipped = {"status": "skipped", "reason": "switched_off"}
    assert await deliver_webhook(receiver.url, PAYLOAD) == skipped
    assert (await client.post("/events", json=EVENT)).json()["job_ids"] == []
    assert len(receiver.received) == 2


async def test_a_failing_receiver_is_given_up_once(development, user, as_user, receiver, mailbox):
    receiver.statuses = [500, 404]
    long_ago = datetime.now(UTC) - timedelta(days=app_settings.webhook_failing_days)
    failing = {"failures": MIN_FAILURES, "failing_since": long_ago}
    await subscribe(user, receiver.url, **failing)
    receiver.answers.clear()
    deliveries = [asyncio.create_task(deliver_webhook(receiver.url, PAYLOAD)) for _ in range(2)]
    await eventually(lambda: len(receiver.received) == 2)
    receiver.answers.set()
    await asyncio.wait(deliveries)
    await eventually(lambda: mailbox.messages)
    entries = await AuditModel.find(AuditModel.action == "webhook.switched_off").to_list()
    assert len(entries) == 1
    errors = {type(delivery.exception()) for delivery in deliveries}
    assert errors == {TransientError, PermanentError}


async def test_deliveries_leave_nothing_longer_than_their_events(db):
    now = datetime.now(UTC)
    retention = timedelta(seconds=app_settings.event_retention)
    for task in (deliver_event.name, "other"):
        for number in (-1, 1):
            age = retention + timedelta(hours=number)
            letter = DeadLetterModel(
                id=f"{task} {number}",
                job_id="1",
                task=task,
                error_type="E",
                error="",
                attempts=1,
                died_at=now - age,
            )
            await letter.insert()
            run = RunModel(
                job_id=f"{task} {number}",
                task=task,
                attempt=1,
                ended_as="failed",
                started_at=now - age,
                seconds=1,
                correlation_id="c",
                expires_at=now + timedelta(days=1),
            )
            await run.insert()

    assert await cleanup_old_deliveries() == {"status": "completed", "deleted_count": 2}
    expected = {"deliver_event -1", "other -1", "other 1"}
    letters = await DeadLetterModel.find_all().to_list()
    assert {letter.id for letter in letters} == expected
    assert {run.job_id for run in await RunModel.find_all().to_list()} == expected
