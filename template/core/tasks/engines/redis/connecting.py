"""Connections to the queue's server: one server, a primary that Sentinel names, or a cluster.

The library's client `RedisCluster` is not used. It raises an AttributeError if a slot moves to a
node that it does not know, and callers cannot wait for a free connection. All keys of a queue are
in one slot, so a client of one server is enough if it finds the slot's node when it connects.
"""

import random
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio.sentinel as library
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.crc import key_slot
from redis.exceptions import RedisError

MAX_CONNECTIONS = 20
"""The largest number of connections of one process. Further calls wait for one of them."""
FINDING = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "decode_responses": True, "db": 0}
"""The options for the short questions to sentinels, and to nodes of a cluster."""

_SERIALIZER = HiredisRespSerializer()


class _Sentinels(library.Sentinel):
    """Finds the primary that sentinels know by a name. The library's own errors give no reason."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        problem = "they know none"
        # A node that cannot reach the others may give an old address, so the order is random.
        for node in random.sample(self.sentinels, len(self.sentinels)):
            try:
                if address := await self.ask(node, service_name):
                    return address
            except RedisError as error:
                problem = str(error)
        reason = f"the hosts name no primary for {service_name!r}: {problem}"
        raise library.MasterNotFoundError(reason)

    async def ask(self, node: Redis, service_name: str) -> tuple[str, int] | None:
        address: Any = await node.sentinel_get_master_addr_by_name(service_name)
        return address and tuple(address)


class _Cluster(_Sentinels):
    """Finds the node of a cluster that holds a key."""

    async def ask(self, node: Redis, service_name: str) -> tuple[str, int] | None:
        slot = key_slot(service_name.encode())
        for first, last, (host, port, *_), *_ in await node.cluster("slots"):
            if first <= slot <= last:
                return host or node.connection_pool.connection_kwargs["host"], port
        return None


def connect(url: str, key: str) -> Redis:
    """Return a client, which connects when it is used.

    Args:
        url: The URL, in a form that `Settings.redis_url` describes.
        key: A key of the queue. In a cluster, the client uses the node that holds this key.

    Raises:
        TypeError: The library does not know an option in the URL's query.
        ValueError: An option has a wrong value.
    """
    kind = urlsplit(url).scheme.partition("+")[2]
    client = _find_and_connect(kind, url, key) if kind else _connect(url)
    pool: Any = client.connection_pool
    pool.make_connection()  # raises an error for an unknown option
    return client


def _connect(url: str) -> Redis:
    pool = ConnectionPool.from_url(url, **_options())
    pool.connection_class = _pack_fast(pool.connection_class)
    return Redis.from_pool(pool)


def _find_and_connect(kind: str, url: str, key: str) -> Redis:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    # The library can parse the URL of a single server only.
    scheme = parts.scheme.removesuffix(f"+{kind}")
    plain_url = f"{scheme}://{user}{at}/{database}?{parts.query}"
    options = {**_options(), **parse_url(plain_url)}
    is_tls = options.pop("connection_class", None) is SSLConnection
    sentinel = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    finding = {**options, **FINDING, "ssl": is_tls}
    if kind == "sentinel":
        finding |= sentinel
    kinds: Any = {"sentinel": (_Sentinels, 26379, service), "cluster": (_Cluster, 6379, key)}
    finder, default_port, name = kinds[kind]
    nodes = [urlsplit(f"//{host}") for host in hosts.split(",")]
    addresses = [(node.hostname, node.port or default_port) for node in nodes]
    plain, tls = library.SentinelManagedConnection, library.SentinelManagedSSLConnection
    options["connection_class"] = _pack_fast(tls if is_tls else plain)
    client: Redis = finder(addresses, sentinel_kwargs=finding).master_for(name, **options)
    return client


def _options() -> dict[str, Any]:
    return {
        "max_connections": MAX_CONNECTIONS,
        # `Client.open` limits the time of each call. The library's own limit uses `wait_for`, which
        # may lose a cancellation with Python 3.11.
        "socket_timeout": None,
        "socket_keepalive": True,
        "protocol": 2,
        "driver_info": None,  # it sends CLIENT SETINFO, which needs one more right
        # The client's own retries would run a script twice if its reply was late.
        "retry": Retry(NoBackoff(), 0),
    }


def _pack_fast(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return the class with hiredis for commands too. The library uses it for replies only."""

    class FastConnection(connection_class):  # type: ignore[valid-type,misc]
        def pack_command(self, *words: Any) -> list[bytes]:
            packed: list[bytes] = _SERIALIZER.pack(*words)
            return packed

    return FastConnection
