"""The connection to the queue's server. Every error of the server becomes `QueueUnavailable`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ReadOnlyError, RedisError

from core.config import find_address
from core.tasks.errors import QueueRefuses, QueueUnavailable

Word = str | bytes | int
"""An argument of a script."""

OPERATION_SECONDS = 3.0
"""A server that takes longer counts as down."""
MAX_CONNECTIONS = 20
"""The largest number of connections of one process. Further calls wait for one of them."""
EVEN_IF_FULL = "#!lua flags=allow-oom"
"""The first line of scripts that a full server runs too, since they help to free its memory."""

REFUSALS = {
    "OOM": "is full: free memory, or raise maxmemory",
    "READONLY": "is a read-only replica",
    "NOREPLICAS": "has too few replicas (min-replicas-to-write)",
    "MISCONF": "cannot save its data to its disk",
}
"""The errors of a server that answers but does not write, with their meanings."""


class Client:
    """A client that limits the time of each call and the number of connections.

    It connects when it is used. Replies are bytes, because a forged message may contain any bytes.

    Args:
        url: The URL of the Redis or Valkey server.
    """

    def __init__(self, url: str) -> None:
        self._place = f"the queue's server at {find_address(url)} (REDIS_URL)"
        self._url = url
        self._scripts: dict[str, AsyncScript] = {}
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            # `open` sets the limit. The library's own limit uses `wait_for`, which may lose a
            # cancellation with Python 3.11.
            socket_timeout=None,
            socket_keepalive=True,
            protocol=2,
            # The client's own retries would run a script twice if its reply was late.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        words: Iterable[Word] = (),
    ) -> Any:
        """Run a script on the server, and return its reply.

        Args:
            script: The script's text.
            keys: Its `KEYS`.
            words: Its `ARGV`.

        Raises:
            QueueUnavailable: The server cannot be reached, or refuses the script.
        """
        async with self.open() as redis:
            known = self._scripts.get(script)
            if known is None:
                known = self._scripts[script] = redis.register_script(script)
            return await known(keys, words)

    def run_blocking(self, script: str, keys: Sequence[str]) -> None:
        """Run a script from another thread, without the event loop, which may be blocked.

        Args:
            script: The script's text.
            keys: Its `KEYS`.

        Raises:
            QueueUnavailable: The server cannot be reached, or refuses the script.
        """
        try:
            with redis.Redis.from_url(self._url, socket_timeout=OPERATION_SECONDS) as client:
                client.eval(script, len(keys), *keys)
        except (RedisError, OSError) as error:
            raise self._explain(error) from error

    @asynccontextmanager
    async def open(self, seconds: float = OPERATION_SECONDS) -> AsyncIterator[Redis]:
        """Yield the library's client for a block of calls.

        Args:
            seconds: The longest time that the block may take.

        Raises:
            QueueUnavailable: The server cannot be reached, or refuses a command.
        """
        try:
            async with asyncio.timeout(seconds):
                yield self._redis
        except TimeoutError as error:
            problem = f"{self._place} did not answer within {seconds:g} s"
            raise QueueUnavailable(problem) from error
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError):
                # After a failover the address may lead to another server.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> QueueUnavailable:
        code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        if code in REFUSALS:
            return QueueRefuses(self._place, REFUSALS[code])
        return QueueUnavailable(f"{self._place} cannot be used: {error}")
