"""Mail: Jinja2 templates from `app/templates/emails`, sent over SMTP."""

from datetime import UTC, datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import Policy, default
from email.utils import make_msgid
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import aiosmtplib
from email_validator import validate_email
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from core.config import ROOT, get_settings, read_sender
from core.context import TaskContext

__all__ = ["Rendered", "render_email", "send_email"]

TEMPLATES = [ROOT / "app" / "templates" / "emails", ROOT / "core" / "templates" / "emails"]
"""The folders of the templates. The service can replace a template of `core`."""
TIMEOUT_SECONDS = 30
BODY = default.clone(max_line_length=998)
"""Long lines, such as links, are sent unchanged up to the limit of RFC 5322. So is text that is not
ASCII (`8bit`): aiosmtplib encodes it for the few servers that need this."""
SMTPS_PORT = 465
SUBMISSION_PORT = 587


class _LinkHeader(UnstructuredHeader, BaseHeader):
    """A header with a link. The standard library would encode a link that does not fit a line."""

    def fold(self, *, policy: Policy) -> str:
        """Return the header as one line."""
        return f"{self.name}: {self}{policy.linesep}"


_headers = HeaderRegistry()
_headers.map_to_type("List-Unsubscribe", _LinkHeader)


class Rendered(NamedTuple):
    """The body of a mail.

    Attributes:
        html_content: The body as HTML.
        text_content: The body as plain text.
    """

    html_content: str
    text_content: str


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
    )


def render_email(template: str, **values: object) -> Rendered:
    """Render `<template>.html` and `<template>.txt`. Values are escaped in HTML.

    Args:
        template: The name of both files in `app/templates/emails`, without its ending.
        **values: The template's variables. `service_name` is always set.

    Raises:
        jinja2.TemplateNotFound: One of the files is missing.
        jinja2.UndefinedError: A variable of the template is missing in `values`.
    """
    html = _templates().get_template(f"{template}.html")
    text = _templates().get_template(f"{template}.txt")
    values = {"service_name": get_settings().service_name, **values}
    return Rendered(html.render(values), text.render(values))


async def send_email(
    *,
    to_email: str,
    subject: str,
    html_content: str,
    text_content: str,
    unsubscribe_link: str | None = None,
) -> str:
    """Send a mail through the server in `SMTP_URL`.

    Args:
        to_email: The recipient's address.
        subject: The subject, one line.
        html_content: The body as HTML.
        text_content: The body for mail readers that show plain text only.
        unsubscribe_link: For a mail that people can unsubscribe from, such as a newsletter: a link
            whose page unsubscribes the recipient. Mail readers show a button for it. The button
            sends a POST request without a cookie (RFC 8058).

    Returns:
        The mail's `Message-ID` header.

    Raises:
        aiosmtplib.SMTPException: The server cannot be reached, or refused the mail.
        ValueError: The subject has a line break, or the address is not valid.
    """
    message = _make_message(to_email, subject)
    if unsubscribe_link:
        link = f"<{unsubscribe_link}>"
        message["List-Unsubscribe"] = _headers("List-Unsubscribe", link)
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(text_content, cte="8bit")
    message.add_alternative(html_content, subtype="html", cte="8bit")
    await _send(message)
    return str(message["Message-ID"])


def _make_message(to_email: str, subject: str) -> EmailMessage:
    sender = _find_sender()
    message = EmailMessage(BODY)
    message["From"] = sender
    message["To"] = _ascii_address(to_email)
    message["Subject"] = subject
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = make_msgid(domain=sender.domain)
    # Keeps out-of-office replies away (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    correlation_id = TaskContext.get_correlation_id()
    if correlation_id:
        message["X-Correlation-ID"] = correlation_id
    return message


def _find_sender() -> Address:
    settings = get_settings()
    sender = read_sender(settings.mail_from)
    name = sender.display_name or settings.service_name
    return Address(name, addr_spec=sender.addr_spec)


def _ascii_address(address: str) -> str:
    """Return an address for servers that accept ASCII only. Every domain has an ASCII form."""
    valid = validate_email(address, check_deliverability=False)
    return valid.ascii_email or address


async def _send(message: EmailMessage) -> None:
    url = get_settings().smtp_url
    implicit_tls = url.scheme == "smtps"
    default_port = SMTPS_PORT if implicit_tls else SUBMISSION_PORT
    # Never send a password in plain text. None means: encrypt if the server offers it.
    requires_start_tls = bool(url.username) and not implicit_tls
    await aiosmtplib.send(
        message,
        hostname=url.host,
        port=url.port or default_port,
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        use_tls=implicit_tls,
        start_tls=True if requires_start_tls else None,
        timeout=TIMEOUT_SECONDS,
    )
