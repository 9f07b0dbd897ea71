"""The state of a subscription's receiver: whether it works, and since when it fails."""

import random
from datetime import UTC, datetime, timedelta

from app.models.webhook import Subscription
from app.settings import app_settings

SHORTEST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
MIN_FAILURES = 20
"""A receiver with fewer failures is not switched off. One event has 13 attempts."""


def seconds_to_wait(subscription: Subscription) -> float:
    """Return for how many seconds no request may be sent, because the receiver fails.

    The time is random, so the waiting events are not sent all at once.
    """
    if not subscription.retry_at:
        return 0
    left = (subscription.retry_at - datetime.now(UTC)).total_seconds()
    return max(0, left) * random.uniform(1, 2)


async def note_success(subscription: Subscription) -> None:
    """Note that the receiver accepted an event."""
    # Read the stored number: another delivery may have failed since this request began.
    failing = {"_id": subscription.id, "failures": {"$gt": 0}}
    works = {"failures": 0, "failing_since": None, "retry_at": None}
    await Subscription.find_one(failing).update({"$set": works})


async def note_failure(subscription: Subscription) -> bool:
    """Note that the receiver failed, and return whether to switch it off.

    The longer it has failed, the longer the pause before the next request.
    """
    now = datetime.now(UTC)
    since = subscription.failing_since or now
    failing = {"failing_since": since}
    if subscription.failures:  # after the first failure, the event's own retry is enough
        pause = max(SHORTEST_PAUSE, (now - since) / 10)
        failing["retry_at"] = now + min(pause, LONGEST_PAUSE)
    # If another delivery has succeeded since this request began, the failure does not count.
    unchanged = {"_id": subscription.id, "failing_since": subscription.failing_since}
    change = {"$set": failing, "$inc": {"failures": 1}}
    noted = await Subscription.get_pymongo_collection().update_one(unchanged, change)
    is_lasting = now - since >= timedelta(days=app_settings.webhook_failing_days)
    return bool(noted.modified_count) and is_lasting and subscription.failures >= MIN_FAILURES
