"""E-mail: Jinja2 templates from `app/templates/emails`, sent over SMTP."""

from email.message import EmailMessage
from email.utils import make_msgid, parseaddr
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import aiosmtplib
from email_validator import validate_email
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from core.config import ROOT, get_settings
from core.context import TaskContext

__all__ = ["Rendered", "render_email", "send_email"]

TEMPLATES = ROOT / "app" / "templates" / "emails"
TIMEOUT_SECONDS = 30


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
        **values: The template's variables.

    Raises:
        jinja2.TemplateNotFound: One of the files is missing.
        jinja2.UndefinedError: A variable of the template is missing in `values`.
    """
    html, text = (
        _templates().get_template(f"{template}.{kind}").render(values) for kind in ("html", "txt")
    )
    return Rendered(html, text)


async def send_email(*, to_email: str, subject: str, html_content: str, text_content: str) -> str:
    """Send one message over SMTP, to the server that `SMTP_URL` names.

    Args:
        to_email: The recipient's address.
        subject: One line.
        html_content: The body for most readers.
        text_content: The same for those that show plain text only.

    Returns:
        The message's id, as it stands in its `Message-ID` header.

    Raises:
        aiosmtplib.SMTPException: The server cannot be reached, or refused the message.
        ValueError: The subject has a line break, or the address is none.
    """
    settings = get_settings()
    message = EmailMessage()
    message["From"] = settings.mail_from
    # Not every server takes other letters than those of ASCII; a domain can be written in these.
    message["To"] = validate_email(to_email, check_deliverability=False).ascii_email or to_email
    message["Subject"] = subject
    message["Message-ID"] = make_msgid(domain=parseaddr(settings.mail_from)[1].rpartition("@")[2])
    if correlation_id := TaskContext.get_correlation_id():
        message["X-Correlation-ID"] = correlation_id
    message.set_content(text_content)
    message.add_alternative(html_content, subtype="html")

    url = settings.smtp_url
    implicit_tls = url.scheme == "smtps"
    await aiosmtplib.send(
        message,
        hostname=url.host,
        port=url.port or (465 if implicit_tls else 587),
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        use_tls=implicit_tls,
        # A password never travels in clear; without one encryption is used where it is offered.
        start_tls=True if url.username and not implicit_tls else None,
        timeout=TIMEOUT_SECONDS,
    )
    return str(message["Message-ID"])
