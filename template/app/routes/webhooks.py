"""Webhooks: subscribe to events, and tell of some."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, HttpUrl, StringConstraints
from pymongo.errors import DuplicateKeyError

from app.models.webhook import Subscription
from app.tasks.webhooks import deliver_webhook
from core.services.audit import audit_log
from core.services.limits import Limits, check_limits
from core.services.targets import TargetRefused, check_target
from core.services.webhooks import new_webhook_secret
from core.tasks import InvalidArguments
from core.web import ClientAddress, CurrentUser, find_own

router = APIRouter(tags=["webhooks"])

EventType = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,100}$")]
MOST = 20
"""Subscriptions of one user: each event is as many jobs."""
SUBSCRIBING = Limits("60 per hour", "200 per hour")
PUBLISHING = Limits("60 per minute", "200 per minute")


class NewSubscription(BaseModel):
    url: HttpUrl
    events: list[EventType] = Field(default=[], max_length=100)


class SubscriptionView(BaseModel):
    id: str
    url: str
    events: list[str]


class Subscribed(SubscriptionView):
    secret: str
    """Shown this once; verify signatures with it, as https://www.standardwebhooks.com says."""


class NewEvent(BaseModel):
    type: EventType
    data: dict[str, Any] = {}


class Published(BaseModel):
    event_id: str
    job_ids: list[str]


@router.post("/webhooks", status_code=201, responses={401: {}, 409: {}, 429: {}})
async def subscribe(form: NewSubscription, user: CurrentUser, client: ClientAddress) -> Subscribed:
    """Have events sent to an address on the public internet."""
    url = str(form.url)
    await check_limits("subscribe", SUBSCRIBING, str(user.id), client)
    try:
        await check_target(url)
    except TargetRefused as error:
        raise HTTPException(422, str(error)) from None
    new = Subscription(owner=str(user.id), url=url, events=form.events, secret=new_webhook_secret())
    try:
        await new.insert()
    except DuplicateKeyError:
        raise HTTPException(409, "You have subscribed this address already.") from None
    if (
        await Subscription.find(Subscription.owner == str(user.id)).count() > MOST
    ):  # after it, for those at once
        await new.delete()
        raise HTTPException(409, f"You have {MOST} subscriptions, which is all that there can be.")
    await audit_log("webhook.subscribed", subscription=str(new.id), url=url)
    return Subscribed(id=str(new.id), url=url, events=new.events, secret=new.secret)


@router.get("/webhooks", responses={401: {}})
async def list_subscriptions(user: CurrentUser) -> list[SubscriptionView]:
    """Your subscriptions."""
    own = await Subscription.find(Subscription.owner == str(user.id)).to_list()
    return [SubscriptionView(id=str(each.id), url=each.url, events=each.events) for each in own]


@router.delete("/webhooks/{subscription_id}", status_code=204, responses={401: {}, 404: {}})
async def unsubscribe(subscription_id: str, user: CurrentUser) -> None:
    """Have nothing more sent there, not even what is queued already."""
    subscription = await find_own(Subscription, subscription_id, user)
    await subscription.delete()
    await audit_log("webhook.unsubscribed", subscription=subscription_id, url=subscription.url)


@router.post(
    "/events", status_code=202, responses={401: {}, 413: {}, 429: {}}, max_body_size=64 * 1024
)
async def publish_event(form: NewEvent, user: CurrentUser, client: ClientAddress) -> Published:
    """Tell your own subscribers of something: a job for each."""
    await check_limits("publish", PUBLISHING, str(user.id), client)
    event_id = uuid4().hex
    payload = {
        "id": event_id,
        "type": form.type,
        "timestamp": datetime.now(UTC).isoformat(),
        "data": form.data,
    }
    wanted = {"$or": [{"events": form.type}, {"events": []}]}
    subscribers = await Subscription.find(Subscription.owner == str(user.id), wanted).to_list()
    try:
        jobs = await deliver_webhook.enqueue_many([(each.url, payload) for each in subscribers])
    except InvalidArguments as error:  # text that is none, or lists in lists without end
        raise HTTPException(422, str(error)) from None
    return Published(event_id=event_id, job_ids=[job.id for job in jobs])
