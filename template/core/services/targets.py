"""Requests to addresses that users name: never to this machine or its network, outside of development."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
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
GLOBAL_UNICAST, DOCUMENTATION = IPv6Network("2000::/3"), IPv6Network("3fff::/20")
"""IANA has given out addresses of the internet from the first one only, and none of them from the second one."""

# A name server that does not answer must hold up nobody else: not files, not passwords, not other lookups.
_resolvers = ThreadPool(8, thread_name_prefix="resolver")


@lru_cache(maxsize=1)
def ssl_context() -> ssl.SSLContext:
    """What clients of this process verify certificates with; to read the authorities takes 20 ms each time."""
    return httpx2.create_ssl_context()


class TargetRefused(UserError):
    """This is no address that users may have requests sent to."""


def is_public(address: str) -> bool:
    """Whether this IP address is one of the internet: not private, loopback, link-local, or reserved otherwise."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and (inner := _inner(ip)):
        return is_public(str(inner))
    if isinstance(ip, IPv6Address) and (ip not in GLOBAL_UNICAST or ip in DOCUMENTATION):
        return False
    return ip.is_global and not ip.is_multicast


def _inner(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which packets for this one are passed on."""
    nat64 = IPv4Address(ip.packed[-4:]) if ip in NAT64 else None
    return ip.ipv4_mapped or ip.sixtofour or nat64


async def check_target(url: str) -> None:
    """Check an address when a user names it. It is checked again at each request, since names can be moved.

    Args:
        url: The whole address.

    Raises:
        TargetRefused: It is not one of HTTP, its host is unknown, or leads to a machine that is not public.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise TargetRefused(f"this is no address: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.raw_host or parsed.userinfo:
        raise TargetRefused(
            "the address has to be like https://example.com/hook, without a password"
        )
    await _resolve(parsed)


async def _resolve(url: httpx2.URL) -> Sequence[str]:
    """The IP addresses of a host, all of them checked.

    Raises:
        TargetRefused: One of them is not public, or there is none.
    """
    host = _ascii_host(url)
    look_up = partial(socket.getaddrinfo, host, url.port or 443, type=socket.SOCK_STREAM)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().run_in_executor(_resolvers, look_up)
    except (OSError, UnicodeError):  # TimeoutError is one of the first
        raise TargetRefused(f"the host {host!r} cannot be found") from None
    addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
    if get_settings().environment != "development" and not all(
        is_public(address) for address in addresses
    ):
        raise TargetRefused(f"the host {host!r} is not on the public internet")
    return addresses


def _ascii_host(url: httpx2.URL) -> str:
    """As it is asked for and as certificates name it; Python would encode the decoded name by an older rule."""
    return url.raw_host.decode("ascii").strip("[]")


class _PublicTransport(httpx2.AsyncBaseTransport):
    """Connects to the very IP address that was checked: a name that is looked up twice may be answered in two ways."""

    def __init__(self) -> None:
        # A connection is found again by IP address, behind which another host may be, with another certificate.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._transport = httpx2.AsyncHTTPTransport(verify=ssl_context(), limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        *others, last = await _resolve(url)
        # The certificate is that of the name.
        request.extensions = {**request.extensions, "sni_hostname": _ascii_host(url)}
        try:
            for address in others:
                try:
                    request.url = url.copy_with(host=address)
                    return await self._transport.handle_async_request(request)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    continue  # nothing was sent
            request.url = url.copy_with(host=last)
            return await self._transport.handle_async_request(request)
        finally:
            request.url = url

    async def aclose(self) -> None:
        await self._transport.aclose()


def open_public_client() -> httpx2.AsyncClient:
    """A client for addresses that users name. It follows no redirects, keeps no cookies, and raises TargetRefused."""
    timeout = httpx2.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
    client = httpx2.AsyncClient(
        transport=_PublicTransport(), timeout=timeout, follow_redirects=False
    )
    client.cookies.jar.set_policy(
        DefaultCookiePolicy(allowed_domains=[])
    )  # what one receiver says is not told others
    return client
