"""Checks of the host and the origin of requests, and headers of all answers."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.config import Settings
from core.logging import get_logger
from core.web.access_log import PROBES

logger = get_logger(__name__)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
}
HTTPS_HEADERS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
REFUSED = "The request came from a page on another origin, which CORSMiddleware does not allow."


class SecurityMiddleware:
    """Refuses requests that name another host or change something from another origin.

    It also adds headers to answers that lack them, and warns once if all clients of a proxy look
    like one. Health checks may name any host.

    A request passes if CORS allows its `Origin`, and also credentials if it has a cookie. Otherwise
    `Sec-Fetch-Site` must be `same-origin` or `none`. Without this header, the `Origin` must name
    this host. A request with neither header passes, because no current browser sends it. Source:
    OWASP, Cross-Site Request Forgery Prevention Cheat Sheet, "Fetch Metadata".

    Args:
        app: The application to wrap.
        settings: The service's settings.
        middleware: The service's own middleware, which configures CORS.
    """

    def __init__(self, app: ASGIApp, settings: Settings, middleware: Sequence[Middleware]) -> None:
        url = settings.public_url
        hosts = [str(url.host), *settings.allowed_hosts] if settings.is_production else ["*"]
        is_https = settings.is_production and url.scheme == "https"
        self._app = app
        self._has_warned = False
        self._checked_app = TrustedHostMiddleware(app, hosts, www_redirect=False)
        self._headers = HEADERS | (HTTPS_HEADERS if is_https else {})
        self._own_host = urlsplit(str(url)).netloc
        self._cors = [
            each.cls(app, *each.args, **each.kwargs)  # type: ignore[arg-type]
            for each in middleware
            if isinstance(each.cls, type) and issubclass(each.cls, CORSMiddleware)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    sent.setdefault(name, value)
                if sent.get("content-type", "").startswith("application/json"):
                    sent.setdefault("Cache-Control", "no-store")
            await send(message)

        self._check_proxy(scope, headers)
        app: ASGIApp = self._checked_app
        if scope["path"] in PROBES:
            app = self._app
        elif not self._has_good_origin(scope, headers):
            app = JSONResponse({"detail": REFUSED}, 403)
        await app(scope, receive, send_with_headers)

    def _check_proxy(self, scope: Scope, headers: Headers) -> None:
        """Warn once if a proxy names a client, but the client's address is still the proxy's."""
        proxy, _ = scope["client"] or ("", 0)
        named = headers.get("x-forwarded-for") or headers.get("forwarded") or proxy
        if proxy not in named and not self._has_warned:
            self._has_warned = True
            problem = "FORWARDED_ALLOW_IPS lacks a proxy, or the proxy sends no X-Forwarded-For"
            logger.warning(f"{problem}: its clients count as one", proxy=proxy)

    def _has_good_origin(self, scope: Scope, headers: Headers) -> bool:
        origin = headers.get("origin", "")
        site = headers.get("sec-fetch-site")
        is_safe = scope.get("method") in SAFE_METHODS  # a WebSocket has no method
        is_trusted = origin and any(
            each.is_allowed_origin(origin) and (each.allow_credentials or "cookie" not in headers)
            for each in self._cors
        )
        if is_safe or is_trusted:
            return True
        if site:
            return site in ("same-origin", "none")
        host = origin.partition("://")[2]
        return not origin or host in (headers.get("host"), self._own_host)
