"""A server of the queue: its condition, and calls that are made again after an outage."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from core.logging import get_logger
from core.tasks.engine import Condition
from core.tasks.errors import QueueUnavailable

logger = get_logger(__name__)

RETRY_SECONDS = 0.5
"""The pause after a failed call."""


class Calls:
    """Calls to one server. Each outage is logged once.

    Args:
        warning: What the log says of an outage.

    Attributes:
        problem: Why the last call failed; None if it worked.
    """

    def __init__(self, warning: str) -> None:
        self._warning = warning
        self.problem: str | None = None

    async def make(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Call a function, and return whether it worked. It raises nothing.

        Args:
            work: The function.
        """
        try:
            await work()
        except QueueUnavailable as error:
            self.note(error)
            return False
        except Exception:
            logger.exception("work on the queue failed, trying again")
            return False
        self.problem = None
        return True

    def note(self, error: QueueUnavailable) -> None:
        """Note that a call has failed.

        Args:
            error: The error that it raised.
        """
        if self.problem is None:
            logger.warning(self._warning, error=str(error))
        self.problem = str(error)

    async def repeat(self, work: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Call a function again and again, until this is cancelled.

        Args:
            work: The function.
            seconds: The pause between two calls. After a failure it is at most `RETRY_SECONDS`.
        """
        while True:
            worked = await self.make(work)
            await asyncio.sleep(seconds if worked else min(seconds, RETRY_SECONDS))


def read_condition(info: Mapping[str, Any], now: float) -> Condition:
    """Return the condition of a Redis or Valkey server, except `persists`.

    Args:
        info: The answer to `INFO`; empty if the server forbids it.
        now: The time of the answer, in seconds since 1970.
    """
    limit = info.get("maxmemory")
    name = info.get("server_name", "redis")
    version = info.get(f"{name}_version")
    microseconds = info.get("server_time_usec")
    return Condition(
        memory=info["used_memory"] / limit if limit else None,
        server=f"{name} {version}" if version else None,
        clock_ahead=microseconds / 1e6 - now if microseconds else None,
    )
