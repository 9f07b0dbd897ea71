"""A page of the console: its templates, messages and headers."""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.config import Settings
from core.services.sessions import session_started
from core.services.signatures import InvalidSignature, read_signed, sign
from core.tasks import Worker
from core.tasks.backlog import say_seconds
from core.web.auth import read_session
from core.web.console_port import CONSOLE
from core.web.pages import AnswerRequest, PageRoute, find_root, shorten

LOOK = "look"
"""The tag of a POST route that changes nothing, so viewers may use it too."""
FRESH = timedelta(minutes=10)
"""The age of a log-in after which a bulk discard needs a fresh one."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True, slots=True)
class Console:
    """The console during one request."""

    request: Request
    worker: Worker
    settings: Settings
    user: Any
    may_act: bool
    has_log_in: bool

    def show(self, template: str, **values: Any) -> HTMLResponse:
        """Return a page. Its template escapes all values."""
        said = None
        with suppress(InvalidSignature):
            said = read_signed(self.request.query_params.get("said", ""), self._purpose)
        return HTMLResponse(
            _templates.get_template(f"{template}.html").render(
                values,
                console=self,
                said=said,
                root=find_root(self.request),
                base=find_base(self.request),
                now=datetime.now(UTC),
                process=os.getpid(),
            )
        )

    def go(self, path: str, message: str, **query: object) -> RedirectResponse:
        """Return a redirect to a page that shows a message.

        The message is signed for this user, so a link from elsewhere cannot show another one.
        """
        said = sign(shorten(message, 500), self._purpose)
        return RedirectResponse(make_link(find_base(self.request) + path, **query, said=said), 303)

    @property
    def _purpose(self) -> str:
        return f"console.{self.user.id}"

    async def is_fresh(self) -> bool:
        """Whether the log-in is fresh. A service's own log-in always counts as fresh."""
        if not self.has_log_in:
            return True
        started = await session_started(read_session(self.request) or "")
        return started is not None and datetime.now(UTC) - started < FRESH


async def _get_console(request: Request) -> Console:
    console: Console = request.state.console
    return console


Here = Annotated[Console, Depends(_get_console)]
"""A route's parameter: the console, open for the logged-in user."""


class Page(PageRoute):
    """A route of the console, which adds the console's headers."""

    def get_route_handler(self) -> AnswerRequest:
        """Return the function that answers requests."""
        answer = super().get_route_handler()

        async def add_headers(request: Request) -> Response:
            response = await answer(request)
            response.headers.update(HEADERS)
            return response

        return add_headers


def find_base(request: Request) -> str:
    """Return the path of the console. A proxy may serve the service below a path."""
    return find_root(request) + CONSOLE


def log_in_url(request: Request, back: str, again: bool = False) -> str:
    """Return the address of the log-in page, which redirects to `back` after the log-in.

    Args:
        request: The request.
        back: The page after the log-in.
        again: Whether the user is logged in, and must prove it again.
    """
    return make_link(f"{find_base(request)}/login", next=back, again=again)


def make_link(path: str, **query: object) -> str:
    """Return a link to a page. Parameters that are None or empty are left out."""
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _show_duration(seconds: float | None, whole: bool = False) -> str:
    return "–" if seconds is None else say_seconds(seconds, whole)


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["short"] = shorten
_templates.filters["duration"] = _show_duration
_templates.globals["link"] = make_link
