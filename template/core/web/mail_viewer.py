"""The viewer of the mail that `just dev` caught, for a browser on this machine."""

import re
from collections.abc import Callable
from datetime import datetime
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse

from core.local_servers import CAUGHT_MAIL
from core.web.pages import PathRouter, require_local, show_page

LISTED = 100
HEAD_BYTES = 64 * 1024
HEADER_LENGTH = 1000
TEXT_LENGTH = 100_000
# The HTML runs no script, sends no form and loads nothing. Its links open in a new tab.
POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
DOCTYPE = re.compile(r"\s{0,100}(<!doctype[^>]{0,200}>)?", re.IGNORECASE)

mail_router = PathRouter(
    "/dev/mail",
    prefix="/dev/mail",
    include_in_schema=False,
    dependencies=[Depends(require_local)],
)


def find_mails() -> list[Path]:
    """Return the files of the caught emails, newest first."""
    return sorted(CAUGHT_MAIL.glob("new/*"), key=lambda file: arrival(file.name), reverse=True)


def arrival(key: str) -> list[int]:
    """Return the seconds and microseconds in a Maildir's key, such as `1795245832.M52345P12`."""
    return [int(number) for number in re.findall(r"\d+", key)[:2]]


@mail_router.get("")
def show_mails(request: Request) -> Response:
    """List the newest emails."""
    files = find_mails()
    mails = [_summarize(file) for file in files[:LISTED]]
    return show_page(request, "mails", mails=mails, count=len(files))


@mail_router.get("/{key}")
def show_mail(request: Request, key: str) -> Response:
    """Show one email."""
    file = _find(key)
    message = _parse(file)
    plain = _find_body(message, "text/plain")
    html = _find_body(message, "text/html")
    text = _decode(plain) if plain else ""
    others = enumerate(_list_parts(message)[:LISTED])
    return show_page(
        request,
        "mail",
        mail=_summarize(file),
        headers=[(name, _decode_header(value)) for name, value in message.items()][:LISTED],
        has_html=html is not None,
        text=text[:TEXT_LENGTH],
        is_long=len(text) > TEXT_LENGTH,
        files=[(i, _name(part, i)) for i, part in others if part not in (plain, html)],
    )


@mail_router.get("/{key}/html")
def show_html(key: str) -> Response:
    """Return the HTML of an email, for the frame in its page."""
    part = _find_body(_parse(_find(key)), "text/html")
    html = _decode(part) if part else ""
    html = DOCTYPE.sub(r'\g<0><base target="_blank">', html, count=1)
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return Response(html, headers=headers, media_type="text/html")


@mail_router.get("/{key}/source")
def download_mail(key: str) -> Response:
    """Return the source of an email, unchanged."""
    return FileResponse(_find(key), filename=f"{key}.eml", media_type="message/rfc822")


@mail_router.get("/{key}/files/{number}")
def download_file(key: str, number: int) -> Response:
    """Return an attachment."""
    parts = _list_parts(_parse(_find(key)))
    if not 0 <= number < len(parts):
        raise HTTPException(404)
    name = quote(_name(parts[number], number))
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    content = _get_content(parts[number])
    return Response(content, headers=headers, media_type="application/octet-stream")


def _find(key: str) -> Path:
    for file in find_mails():
        if file.name == key:
            return file
    raise HTTPException(404)


def _summarize(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        message = BytesParser().parsebytes(opened.read(HEAD_BYTES), headersonly=True)
    names = ("subject", "from", "to")
    texts = {name: _decode_header(message.get(name, "")) for name in names}
    return {**texts, "key": file.name, "at": datetime.fromtimestamp(file.stat().st_mtime)}


def _parse(file: Path) -> Message:
    content = file.read_bytes()
    try:
        message = BytesParser().parsebytes(content)
        _list_parts(message)
    except Exception:  # `email` fails in many ways, for example if parts are nested too deeply
        message = BytesParser().parsebytes(content, headersonly=True)
    return message


def _list_parts(message: Message) -> list[Message]:
    return [part for part in message.walk() if not part.is_multipart()]


def _find_body(message: Message, kind: str) -> Message | None:
    for part in _list_parts(message):
        is_file = part.get_content_disposition() == "attachment"
        if part.get_content_type() == kind and not is_file:
            return part
    return None


def _name(part: Message, number: int) -> str:
    name = re.split(r"[/\\]", _read(part.get_filename))[-1]
    return re.sub(r"[^\w .()-]", "_", name).strip(" .")[-100:] or f"part-{number}"


def _decode_header(value: Any) -> str:
    text = _read(lambda: make_header(decode_header(value)))
    return " ".join(text.split())[:HEADER_LENGTH]


def _get_content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _decode(part: Message) -> str:
    content = _get_content(part)
    charset = part.get_content_charset() or "utf-8"
    return _read(lambda: content.decode(charset, "replace")) or content.decode(errors="replace")


def _read(read: Callable[[], object]) -> str:
    """Return a text of an email. If the text is broken, return an empty one."""
    try:
        return str(read() or "").encode(errors="replace").decode()
    except Exception:  # as in `_parse`
        return ""
