"""Mail, as a real server receives it: its headers and its sender."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from core.config import get_settings
from core.services.email import send_email

LINK = f"https://example.com/digest/{'a-signed-token' * 10}?from=mail&odd=%3C"
MAIL = {
    "to_email": "ada@example.com",
    "subject": "Hello",
    "html_content": "<p>Hello</p>",
    "text_content": "Hello",
}


@pytest.mark.parametrize(
    ("mail_from", "service_name", "sender"),
    [
        ("a@example.com", "Parcel Tracker", ("Parcel Tracker", "a@example.com")),
        ("a@größe.example", "Parcel Tracker", ("Parcel Tracker", "a@xn--gre-6ka8i.example")),
        ("Help <a@example.com>", "Parcel Tracker", ("Help", "a@example.com")),
        ('"Größe, A" <a@example.com>', "Parcel Tracker", ("Größe, A", "a@example.com")),
        ("Größe Inc. <a@example.com>", "Parcel Tracker", ("Größe Inc.", "a@example.com")),
        ("a@example.com", 'Größe, "A" & <b>', ('Größe, "A" & <b>', "a@example.com")),
    ],
)
async def test_the_sender_has_a_name(
    settings, mailbox, monkeypatch, mail_from, service_name, sender
):
    monkeypatch.setenv("MAIL_FROM", mail_from)
    monkeypatch.setenv("SERVICE_NAME", service_name)
    get_settings.cache_clear()
    await send_email(**MAIL)

    (mail,) = mailbox.messages
    (address,) = mail["From"].addresses
    assert (address.display_name, address.addr_spec) == sender


async def test_a_mail_has_the_headers_of_automatic_mail(settings, mailbox):
    message_id = await send_email(**MAIL)

    (mail,) = mailbox.messages
    assert mail["Message-ID"] == message_id
    assert mail["Auto-Submitted"] == "auto-generated"
    age = datetime.now(UTC) - parsedate_to_datetime(mail["Date"])
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert "List-Unsubscribe" not in mail


async def test_a_mail_reader_can_unsubscribe(settings, servers, mailbox):
    await send_email(**MAIL, unsubscribe_link=LINK)

    # As sent, because no mail reader decodes these headers.
    (file,) = (servers.mail / "new").iterdir()
    lines = file.read_text().splitlines()
    assert f"List-Unsubscribe: <{LINK}>" in lines
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
