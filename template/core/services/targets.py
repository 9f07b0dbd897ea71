"""Requests to URLs that users choose. Outside development they reach the public internet only."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from http.cookiejar import DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import httpx2

from core.config import get_settings
from core.errors import UserError
from core.threads import ThreadPool
from core.traces import public_request

__all__ = ["TargetRefused", "check_target", "open_public_client"]

TIMEOUT_SECONDS = 10.0
CONNECT_SECONDS = 3.0
RESOLVE_SECONDS = 5.0
NAT64 = IPv6Network("64:ff9b::/96")
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The only range from which IANA assigns public IPv6 addresses."""

SPECIAL_PURPOSE = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12
    192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16
    192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
    168.63.129.16/32
"""
"""IANA's special-purpose networks (RFC 6890) of IPv4, and of IPv6 in `GLOBAL_UNICAST`. Multicast
and Azure's control plane are added. Python's own list has fewer networks."""

_special_purpose = [ip_network(network) for network in SPECIAL_PURPOSE.split()]

# A separate pool, so a name server that does not answer delays no other work in threads.
_resolvers = ThreadPool(8, thread_name_prefix="resolver")


@lru_cache(maxsize=1)
def ssl_context() -> ssl.SSLContext:
    """Return the SSL context that all HTTP clients share. Creating one takes 20 ms."""
    return httpx2.create_ssl_context()


class TargetRefused(UserError):
    """The service may not send requests to this URL."""


def is_public(address: str) -> bool:
    """Return whether an IP address is public: not private, loopback, link-local or reserved.

    Args:
        address: The IP address.

    Raises:
        ValueError: The text is not an IP address.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        # Packets go to the IPv4 address inside. 6to4 and Teredo are obsolete, and are refused.
        if ip in NAT64 or ip.ipv4_mapped:
            return is_public(str(IPv4Address(ip.packed[-4:])))
        if ip not in GLOBAL_UNICAST:
            return False
    return not any(ip in network for network in _special_purpose)


async def check_target(url: str) -> None:
    """Check a URL that a user enters. Each request checks it again, because DNS can change.

    Args:
        url: The whole URL.

    Raises:
        TargetRefused: The URL is not an HTTP URL, its host is unknown or not public, or its port is
            not in `OUTBOUND_PORTS`.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise TargetRefused(f"the URL is not valid: {error}") from None
    is_http = parsed.scheme in ("http", "https") and parsed.raw_host
    if not is_http or parsed.userinfo:
        raise TargetRefused(
            "the URL must look like https://example.com/hook, without a user name or password"
        )
    await _resolve(parsed)


async def _resolve(url: httpx2.URL) -> Sequence[str]:
    """Return the IP addresses of a URL's host, after a check of all of them and of the port.

    Raises:
        TargetRefused: The host is unknown, one of its addresses is not public, or the port is not
            allowed.
    """
    host = _ascii_host(url)
    port = url.port or (80 if url.scheme == "http" else 443)
    settings = get_settings()
    restricted = settings.environment != "development"
    if restricted and port not in settings.outbound_ports:
        allowed = ", ".join(map(str, sorted(settings.outbound_ports)))
        raise TargetRefused(f"port {port} is not allowed. Use one of {allowed}")
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            addresses = await _look_up(host, port)
    except (OSError, UnicodeError):  # includes TimeoutError
        raise TargetRefused(f"the host {host!r} cannot be found") from None
    if restricted and not all(map(is_public, addresses)):
        raise TargetRefused(f"the host {host!r} is not on the public internet")
    return addresses


async def _look_up(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await loop.run_in_executor(_resolvers, look_up)
    addresses = [str(address[0]) for *_, address in found]
    return list(dict.fromkeys(addresses))


def _ascii_host(url: httpx2.URL) -> str:
    """Return the host for DNS and certificates. Python would encode it by IDNA 2003 instead."""
    return url.raw_host.decode("ascii").strip("[]")


class _PublicTransport(httpx2.AsyncBaseTransport):
    """A transport that connects to the IP address that it checked.

    A second look-up of the name could return another address.
    """

    def __init__(self) -> None:
        # Connections are kept by IP address, but another host may share the address.
        self._transport = httpx2.AsyncHTTPTransport(
            verify=ssl_context(),
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        addresses = await _resolve(url)
        # The certificate must match the host name, not the IP address.
        request.extensions = {
            **request.extensions,
            "sni_hostname": _ascii_host(url),
        }
        with public_request(request.method, url.host, url.port) as note_status:
            try:
                response = await self._send_to_first(request, addresses)
            finally:
                request.url = url
            note_status(response.status_code)
            return response

    async def _send_to_first(
        self,
        request: httpx2.Request,
        addresses: Sequence[str],
    ) -> httpx2.Response:
        """Send the request to the first address that accepts a connection."""
        *others, last = addresses
        for address in others:
            request.url = request.url.copy_with(host=address)
            # If the connection fails, nothing was sent.
            with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._transport.handle_async_request(request)
        request.url = request.url.copy_with(host=last)
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def open_public_client() -> httpx2.AsyncClient:
    """Return an HTTP client for URLs that users choose. Close it after use.

    The client follows no redirects and keeps no cookies. Its requests raise `TargetRefused` if
    the URL does not lead to the public internet, or names a port that is not in `OUTBOUND_PORTS`.
    """
    client = httpx2.AsyncClient(
        transport=_PublicTransport(),
        timeout=httpx2.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
    )
    # One receiver's cookies must not reach another receiver.
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    client.cookies.jar.set_policy(no_cookies)
    return client
