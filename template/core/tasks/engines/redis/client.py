"""The connection to the queue's server. Every error of the server becomes `QueueUnavailable`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.commands.core import AsyncScript
from redis.exceptions import MovedError, ReadOnlyError, RedisError

from core.config import find_address
from core.tasks.engine import RANKS
from core.tasks.engines.redis.connecting import MAX_CONNECTIONS, connect
from core.tasks.errors import REFUSALS, QueueRefuses, QueueUnavailable

Word = str | bytes | int
"""An argument of a script."""
W = TypeVar("W", bound=Word)

OPERATION_SECONDS = 3.0
"""A server that takes longer counts as down."""
GROUP = "workers"
"""The name of the consumer group of each stream."""

_LUA = Path(__file__).parent / "lua"

MAX_ROWS = 500
MAX_BYTES = 4 * 1024**2
"""A batch ends with the row that reaches one of these limits, so each call is short."""

_REFUSALS = {
    **REFUSALS,
    "MOVED": "has moved the queue to another node of the cluster",
    "ASK": "is moving the queue to another node of the cluster",
    "TRYAGAIN": "is moving the queue to another node of the cluster",
    "CLUSTERDOWN": "is in a cluster that is down",
}
"""`REFUSALS` and the errors of a cluster."""


def split(rows: Iterable[list[W]]) -> Iterator[list[list[W]]]:
    """Split the arguments of a script into batches, by the number of rows and by their size.

    Args:
        rows: The words of each item.
    """
    batch: list[list[W]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(word) for word in row if not isinstance(word, int))
        if len(batch) == MAX_ROWS or size >= MAX_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_script(name: str) -> str:
    """Return a script's text, with the functions that all scripts share."""
    first_line, _, text = (_LUA / f"{name}.lua").read_text().partition("\n")
    shared = [(_LUA / f"{each}.lua").read_text() for each in ("common", "slots")]
    return "\n".join([first_line, *shared, text])


class Client:
    """A client that limits the time of each call and the number of connections.

    It connects on first use. Replies are bytes, because a forged message may contain any bytes.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.

    Attributes:
        streams: The key of each priority's stream, in the order of `RANKS`.
        stashed: The key of the stashed dead letters.
    """

    def __init__(self, url: str, queue_name: str) -> None:
        self._place = f"the queue's server at {find_address(url)} (REDIS_URL)"
        self._url = url
        self._queue_name = queue_name
        # The braces are a hash tag. A cluster keeps all keys with the same tag on one server.
        self._prefix = f"{{{queue_name}}}:"
        self.streams = [f"{self._prefix}stream:{priority}" for priority in RANKS]
        self.stashed = f"{self._prefix}dead"
        self._keys = [
            *self.streams,
            *(f"{self._prefix}scheduled:{priority}" for priority in RANKS),
            f"{self._prefix}messages",
            self.stashed,
            f"{self._prefix}holder:",
            f"{self._prefix}looked",
            f"{self._prefix}check",
            f"{self._prefix}slots",
            f"{self._prefix}slots:",
            f"{self._prefix}waiting:",
        ]
        self._scripts: dict[str, AsyncScript] = {}
        self._redis = connect(url, self._prefix)
        # A full pool of the library refuses further calls. They wait here instead.
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    def record_key(self, job_id: str) -> str:
        """Return the key of a job's record.

        Args:
            job_id: The job's id.
        """
        return f"{self._prefix}job:{job_id}"

    async def close(self) -> None:
        """Close all connections."""
        pool = self._redis.connection_pool
        await self._redis.aclose()
        if isinstance(pool, SentinelConnectionPool):
            await pool.sentinel_manager.aclose()

    async def run(self, name: str, *words: Word) -> Any:
        """Run a script on the server, and return its reply.

        Args:
            name: The script's name: its file in `lua`, without the suffix.
            *words: Its arguments after the prefix.

        Raises:
            QueueUnavailable: The server cannot be reached, or refuses the script.
        """
        async with self.open() as redis:
            script = self._scripts.get(name)
            if script is None:
                script = self._scripts[name] = redis.register_script(_read_script(name))
            return await script(self._keys, [self.record_key(""), *words])

    def run_blocking(self, name: str, *words: Word) -> None:
        """Run a script from another thread, without the event loop, which may be blocked.

        Args:
            name: The script's name.
            *words: Its arguments after the prefix.

        Raises:
            QueueUnavailable: The server cannot be reached, or refuses the script.
        """
        asyncio.run(self._run_once(name, *words))

    async def _run_once(self, name: str, *words: Word) -> None:
        # Connections belong to the event loop that opened them.
        client = Client(self._url, self._queue_name)
        try:
            await client.run(name, *words)
        finally:
            await client.close()

    @asynccontextmanager
    async def open(self, seconds: float = OPERATION_SECONDS) -> AsyncIterator[Redis]:
        """Yield the library's client for a block of calls.

        Args:
            seconds: The longest time that the block may take.

        Raises:
            QueueUnavailable: The server cannot be reached, or refuses a command.
        """
        try:
            async with asyncio.timeout(seconds), self._free:
                yield self._redis
        except TimeoutError as error:
            problem = f"{self._place} did not answer within {seconds:g} s"
            raise QueueUnavailable(problem) from error
        except (RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError | MovedError):
                # Another server has the queue now. The next connection will find it.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> QueueUnavailable:
        code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        if code in _REFUSALS:
            return QueueRefuses(self._place, _REFUSALS[code])
        return QueueUnavailable(f"{self._place} cannot be used: {error}")
