"""Requests to URLs that users choose. Outside development they reach the public internet only."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from http.cookiejar import DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx2

from core.config import get_settings
from core.errors import UserError
from core.threads import ThreadPool

__all__ = ["TargetRefused", "check_target", "open_public_client"]

TIMEOUT_SECONDS = 10.0
CONNECT_SECONDS = 3.0
RESOLVE_SECONDS = 5.0
NAT64 = IPv6Network("64:ff9b::/96")
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The only range from which IANA assigns public IPv6 addresses."""
DOCUMENTATION = IPv6Network("3fff::/20")
"""A part of `GLOBAL_UNICAST` that is reserved for examples (RFC 9637)."""

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
        embedded = _embedded(ip)
        if embedded:
            return is_public(str(embedded))
        if ip not in GLOBAL_UNICAST or ip in DOCUMENTATION:
            return False
    return ip.is_global and not ip.is_multicast


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to this address are forwarded to, or None."""
    nat64 = IPv4Address(ip.packed[-4:]) if ip in NAT64 else None
    return ip.ipv4_mapped or ip.sixtofour or nat64


async def check_target(url: str) -> None:
    """Check a URL that a user enters. Each request checks it again, because DNS can change.

    Args:
        url: The whole URL.

    Raises:
        TargetRefused: The URL is not an HTTP URL, or its host is unknown or not public.
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
    """Return the IP addresses of a URL's host. All of them are checked.

    Raises:
        TargetRefused: The host is unknown, or one of its addresses is not public.
    """
    host = _ascii_host(url)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            addresses = await _look_up(host, url.port or 443)
    except (OSError, UnicodeError):  # includes TimeoutError
        raise TargetRefused(f"the host {host!r} cannot be found") from None
    in_development = get_settings().environment == "development"
    if not in_development and not all(map(is_public, addresses)):
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

    async def handle_async_request(
        self,
        request: httpx2.Request,
    ) -> httpx2.Response:
        url = request.url
        addresses = await _resolve(url)
        # The certificate must match the host name, not the IP address.
        request.extensions = {
            **request.extensions,
            "sni_hostname": _ascii_host(url),
        }
        try:
            return await self._send_to_first(request, addresses)
        finally:
            request.url = url

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
    the URL does not lead to the public internet.
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
