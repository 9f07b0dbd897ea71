"""Rate limits. MongoDB counts the attempts of all web processes together."""

import asyncio
import time
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from limits import RateLimitItem, parse
from limits.storage import MongoDBStorage
from limits.strategies import MovingWindowRateLimiter

from core.config import get_settings
from core.errors import UserError

__all__ = ["SIGN_UP", "Limits", "TooManyRequests", "check_limits"]

SELECTION_MILLISECONDS = 2000
"""Time that a call waits for a server."""
MAX_TRIES = 5
"""Tries to count an attempt while other processes count attempts with the same key."""


class TooManyRequests(UserError):
    """A rate limit is exceeded.

    Attributes:
        retry_after: Seconds until the next attempt is allowed.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("Too many attempts. Try again later.")
        self.retry_after = retry_after


class Limits(NamedTuple):
    """The limits of one action, such as `10 per 5 minutes`.

    Attributes:
        per_address: The limit for one e-mail address or user.
        per_client: The limit for one network address.
        per_pair: The limit for one e-mail address or user from one network address, if any.
    """

    per_address: str
    per_client: str
    per_pair: str | None = None


LOG_IN = Limits("200 per hour", "100 per 5 minutes", "10 per 5 minutes")
SIGN_UP = Limits("10 per day", "100 per hour", "5 per hour")
"""The limits of signing up, and so of the mails that strangers can send to an address."""
RESET = Limits("10 per day", "100 per hour", "5 per hour")


class _Storage(MongoDBStorage):
    def __del__(self) -> None:
        """Leave the client open. The base class closes it, even at interpreter shutdown."""


@lru_cache(maxsize=4)
def _limiter(uri: str, database: str) -> MovingWindowRateLimiter:
    """Return a synchronous limiter. For asyncio, `limits` needs Motor, which is not maintained."""
    storage = _Storage(
        uri,
        database_name=database,
        counter_collection_name="limit_counters",
        window_collection_name="limit_windows",
        serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
        connectTimeoutMS=SELECTION_MILLISECONDS,
    )
    return MovingWindowRateLimiter(storage)


async def check_limits(
    action: str,
    limits: Limits,
    address: str,
    client: str,
    device: str | None = None,
) -> None:
    """Count an attempt, and refuse it if it exceeds a limit.

    Args:
        action: The action. Each action is counted separately.
        limits: The action's limits.
        address: The e-mail address of the attempt, or a user's id. Unknown addresses count too.
        client: The network address of the client. IPv6 addresses count by network (/64).
        device: The id of a device that the user has logged in with, if any. It replaces the client,
            and the devices of a user share a limit. Attempts from elsewhere do not count.

    Raises:
        TooManyRequests: A limit is exceeded.
        pymongo.errors.ServerSelectionTimeoutError: The database cannot be reached.
    """
    settings = get_settings()
    limiter = _limiter(str(settings.mongodb_url), settings.mongodb_database)
    source = device or network_of(client)
    checks = (
        (None if device else limits.per_client, source),
        (limits.per_pair, f"{address} {source}"),
        # The last one, so a client whose attempts are refused does not use it up.
        (limits.per_address, f"{address} devices" if device else address),
    )
    for limit, key in checks:
        if limit:
            await asyncio.to_thread(_hit, limiter, parse(limit), action, key)


def _hit(
    limiter: MovingWindowRateLimiter,
    limit: RateLimitItem,
    action: str,
    key: str,
) -> None:
    for _ in range(MAX_TRIES):
        if limiter.hit(limit, action, key):
            return
        window = limiter.get_window_stats(limit, action, key)
        if not window.remaining:
            break
        # The limiter refuses an attempt below the limit if another one is counted at that moment.
    raise TooManyRequests(max(1.0, window.reset_time - time.time()))


def network_of(client: str) -> str:
    """Return the key that identifies a client: an IPv4 address, or the /64 network of an IPv6 one.

    One person may have a whole /64 network.

    Args:
        client: The network address of the client.
    """
    try:
        address = IPv6Address(client)
    except ValueError:
        return client
    return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
