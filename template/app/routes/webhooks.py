"""Webhooks: subscribe to events, and publish them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, HttpUrl, StringConstraints, UrlConstraints, field_validator
from pymongo.errors import DuplicateKeyError

from app.models.webhook import Event, Subscription
from app.settings import app_settings
from app.tasks.webhooks import deliver_event
from core.services.audit import audit_log
from core.services.limits import Limits, check_limits
from core.services.targets import TargetRefused, check_target
from core.services.webhooks import new_webhook_secret
from core.web import ClientAddress, CurrentUser, find_own

router = APIRouter(tags=["webhooks"])

EventType = Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=100)]

MAX_SUBSCRIPTIONS = 20
"""The limit for each user. One event creates one job for each subscription."""

MAX_URL = 500
"""Each job contains the URL."""

MAX_EVENT = 8 * 1024
SUBSCRIBING = Limits("60 per hour", "200 per hour")
PUBLISHING = Limits("200 per hour", "1000 per hour")


class NewSubscription(BaseModel):
    url: Annotated[HttpUrl, UrlConstraints(max_length=MAX_URL)]
    events: list[EventType] = Field(default=[], max_length=100)


class SubscriptionView(BaseModel):
    id: str
    url: str
    events: list[str]
    switched_off_at: datetime | None = None
    """No event is sent after this time, because the receiver failed for days."""


class Subscribed(SubscriptionView):
    """A new subscription. Its secret verifies signatures, and is shown only once.

    See https://www.standardwebhooks.com for the verification.
    """

    secret: str


class NewEvent(BaseModel):
    type: EventType
    data: dict[str, Any] = {}

    @field_validator("data")
    @classmethod
    def _check_json(cls, data: dict[str, Any]) -> dict[str, Any]:
        # Python's parser accepts numbers and text that other parsers refuse.
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
        return data


class Published(BaseModel):
    event_id: str
    job_ids: list[str]


@router.post(
    "/webhooks",
    status_code=201,
    responses={401: {}, 409: {}, 429: {}},
)
async def subscribe(
    form: NewSubscription,
    user: CurrentUser,
    client: ClientAddress,
) -> Subscribed:
    """Subscribe a URL on the public internet to your events."""
    url = str(form.url)
    owner = str(user.id)
    await check_limits("subscribe", SUBSCRIBING, owner, client)
    try:
        await check_target(url)
    except TargetRefused as error:
        raise HTTPException(422, str(error)) from None
    subscription = Subscription(
        owner=owner,
        url=url,
        events=form.events,
        secret=new_webhook_secret(),
    )
    await _insert(subscription)
    await audit_log(
        "webhook.subscribed",
        subscription=str(subscription.id),
        url=url,
    )
    return Subscribed(
        id=str(subscription.id),
        url=url,
        events=subscription.events,
        secret=subscription.secret,
    )


@router.get("/webhooks", responses={401: {}})
async def list_subscriptions(user: CurrentUser) -> list[SubscriptionView]:
    """List your subscriptions."""
    owner = str(user.id)
    subscriptions = await Subscription.find(Subscription.owner == owner).to_list()
    return [
        SubscriptionView(
            id=str(subscription.id),
            url=subscription.url,
            events=subscription.events,
            switched_off_at=subscription.switched_off_at,
        )
        for subscription in subscriptions
    ]


@router.delete(
    "/webhooks/{subscription_id}",
    status_code=204,
    responses={401: {}, 404: {}},
)
async def unsubscribe(subscription_id: str, user: CurrentUser) -> None:
    """Delete a subscription. Events that are still in the queue are not sent either."""
    subscription = await find_own(Subscription, subscription_id, user)
    await subscription.delete()
    await audit_log(
        "webhook.unsubscribed",
        subscription=subscription_id,
        url=subscription.url,
    )


@router.post(
    "/events",
    status_code=202,
    responses={401: {}, 413: {}, 429: {}},
    max_body_size=MAX_EVENT,
)
async def publish_event(
    form: NewEvent,
    user: CurrentUser,
    client: ClientAddress,
) -> Published:
    """Send an event to your subscriptions. Each delivery is a job."""
    owner = str(user.id)
    await check_limits("publish", PUBLISHING, owner, client)
    wanted = {"$or": [{"events": form.type}, {"events": []}], "switched_off_at": None}
    subscriptions = await Subscription.find(Subscription.owner == owner, wanted).to_list()
    event = _make_event(form, owner)
    if subscriptions:
        await event.insert()
    calls = [(subscription.url, event.id) for subscription in subscriptions]
    jobs = await deliver_event.enqueue_many(calls)
    return Published(
        event_id=event.id,
        job_ids=[job.id for job in jobs],
    )


def _make_event(form: NewEvent, owner: str) -> Event:
    event_id = uuid4().hex
    now = datetime.now(UTC)
    payload = {
        "id": event_id,
        "type": form.type,
        "timestamp": now.isoformat(),
        "data": form.data,
    }
    return Event(
        id=event_id,
        owner=owner,
        payload=json.dumps(payload),
        expires_at=now + timedelta(seconds=app_settings.event_retention),
    )


async def _insert(subscription: Subscription) -> None:
    try:
        await subscription.insert()
    except DuplicateKeyError:
        message = "You have already subscribed this URL. Delete the old subscription first."
        raise HTTPException(409, message) from None
    # Counted after the insertion, so that simultaneous requests cannot exceed the limit.
    count = await Subscription.find(Subscription.owner == subscription.owner).count()
    if count > MAX_SUBSCRIPTIONS:
        await subscription.delete()
        message = f"You already have {MAX_SUBSCRIPTIONS} subscriptions. Delete one first."
        raise HTTPException(409, message)
