"""Rate limits of what must not be tried without end, counted in MongoDB for all web processes together."""

import asyncio
import time
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from limits import RateLimitItem, parse
from limits.storage.mongodb import MongoDBStorageBase
from limits.strategies import MovingWindowRateLimiter
from pymongo import MongoClient

from core.config import get_settings
from core.errors import UserError

__all__ = ["SIGN_UP", "Limits", "TooManyRequests", "check_limits"]

SELECTION_MILLISECONDS = 2000
TRIES = 5


class TooManyRequests(UserError):
    """Something was tried too often.

    Attributes:
        retry_after: Seconds after which it may be tried again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("Too many attempts; try again later.")
        self.retry_after = retry_after


class Limits(NamedTuple):
    """How often one thing may be tried, for one e-mail address and from one network address: `10 per 5 minutes`."""

    per_address: str
    per_client: str


LOG_IN = Limits("10 per 5 minutes", "100 per 5 minutes")
SIGN_UP = Limits("5 per hour", "100 per hour")
"""How often somebody may sign up."""
RESET = Limits("5 per hour", "100 per hour")


class _Storage(MongoDBStorageBase):
    def _init_mongo_client(
        self, uri: str | None, **options: int | str | bool
    ) -> MongoClient[dict[str, object]]:
        return _client(uri)

    def __del__(self) -> None:
        """The client is shared and stays. `limits` would close it, also when Python ends and no thread can start."""


@lru_cache(maxsize=4)
def _client(uri: str | None) -> MongoClient[dict[str, object]]:
    """A client without asyncio: the one that `limits` has for asyncio is Motor, which is no longer kept."""
    return MongoClient(
        uri,
        serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
        connectTimeoutMS=SELECTION_MILLISECONDS,
    )


@lru_cache(maxsize=4)
def _limiter(uri: str, database: str) -> MovingWindowRateLimiter:
    storage = _Storage(
        uri,
        database_name=database,
        counter_collection_name="limit_counters",
        window_collection_name="limit_windows",
    )
    return MovingWindowRateLimiter(storage)


async def check_limits(action: str, limits: Limits, address: str, client: str) -> None:
    """Count one try.

    Args:
        action: What is tried; each is counted by itself.
        limits: How often it may be.
        address: The e-mail address that it is tried with, whether there is such an account or not; or a user's id.
        client: The network address that it comes from. Of IPv6 the network counts, of which one person has many.

    Raises:
        TooManyRequests: It has been tried too often.
        pymongo.errors.ServerSelectionTimeoutError: The database cannot be reached.
    """
    settings = get_settings()
    limiter = _limiter(str(settings.mongodb_url), settings.mongodb_database)
    each = [(limits.per_client, network_of(client)), (limits.per_address, address)]
    for limit, key in each:
        await asyncio.to_thread(_hit, limiter, parse(limit), action, key)


def _hit(limiter: MovingWindowRateLimiter, limit: RateLimitItem, action: str, key: str) -> None:
    for _ in range(TRIES):
        if limiter.hit(limit, action, key):
            return
        window = limiter.get_window_stats(limit, action, key)
        if not window.remaining:
            break
        # Two have begun to count this at the same moment, and one of them was refused for that alone.
    raise TooManyRequests(max(1.0, window.reset_time - time.time()))


def network_of(client: str) -> str:
    """What counts as one client: an IPv4 address, or the network of 64 bits that an IPv6 address lies in."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return client
