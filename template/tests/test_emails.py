"""Emails: the tasks called directly, and as jobs on a real worker."""

import re
from email.message import EmailMessage
from html import unescape

from app.services.new_address import start_new_address
from app.tasks.emails import (
    send_address_changed,
    send_confirmation,
    send_new_address,
    send_password_changed,
    send_password_reset,
    send_welcome_email,
)
from core.services.accounts import (
    find_email_token,
    reset_password,
    start_password_reset,
    start_sign_up,
)
from core.testing import PASSWORD

NO_ID = "000000000000000000000000"
USER_NOT_FOUND = {"status": "skipped", "reason": "user_not_found"}
LINK = re.compile(r"https?://\S+")


async def new_token(email: str) -> str:
    _, token = await start_password_reset(email, "127.0.0.1")
    return token


async def sign_up(email: str) -> str:
    _, token = await start_sign_up(email, PASSWORD, "Eve Squatter")
    return token


def visible_text(mail: EmailMessage) -> str:
    """Return the text that a reader sees of the HTML version, without its hidden preview."""
    body = mail.get_body(("html",))
    assert body
    html = re.sub(r"<head>.*?</head>|<div.*?</div>", "", body.get_content(), flags=re.DOTALL)
    text = unescape(re.sub(r"<[^>]+>", " ", html))
    return " ".join(text.split())


async def test_send_welcome_email(db, user, mailbox):
    result = await send_welcome_email(str(user.id))

    assert result == {"status": "sent", "user_email": user.email}
    (mail,) = mailbox.messages
    assert mail["To"] == user.email
    assert "Welcome, Ada Lovelace!" in mail.get_body(("html",)).get_content()
    assert "Welcome, Ada Lovelace!" in mail.get_body(("plain",)).get_content()


async def test_names_are_escaped_in_html_only(db, user, mailbox):
    user.display_name = "<b>Ada & Co</b>"
    await user.save()

    await send_welcome_email(str(user.id))

    (mail,) = mailbox.messages
    assert "Welcome, &lt;b&gt;Ada &amp; Co&lt;/b&gt;!" in mail.get_body(("html",)).get_content()
    assert "Welcome, <b>Ada & Co</b>!" in mail.get_body(("plain",)).get_content()


async def test_who_signs_up_with_a_known_address_gets_no_link(db, user, mailbox):
    result = await send_confirmation(await sign_up(user.email))

    assert result == {"status": "sent", "user_email": user.email}
    (mail,) = mailbox.messages
    assert "You already have an account" in mail["Subject"]
    for kind in ("html", "plain"):
        body = mail.get_body((kind,)).get_content()
        assert "ask for a new password" in body
        assert "token" not in body


async def test_emails_with_a_link_say_when_it_ends(db, user, settings, mailbox):
    new_address = await start_new_address(user, "eve@example.com", "127.0.0.1")
    for send, token, purpose, page in (
        (send_password_reset, await new_token(user.email), "reset", "reset"),
        (send_confirmation, await sign_up("eve@example.com"), "sign_up", "confirm"),
        (send_new_address, new_address, "new_address", "new-email"),
    ):
        mailbox.clear()
        assert (await send(token))["status"] == "sent"
        (mail,) = mailbox.messages
        assert mail["Subject"].endswith(f" at {settings.service_name}")
        expires_at = (await find_email_token(token, purpose)).expires_at
        for kind in ("html", "plain"):
            body = mail.get_body((kind,)).get_content()
            assert f"http://127.0.0.1:8000/{page}?token={token}" in body
            assert f"{expires_at.day} {expires_at:%B %Y, %H:%M} UTC" in body
        # Somebody who does not own the address may have entered the name.
        assert "Squatter" not in mail.as_string()
        assert "Lovelace" not in mail.as_string()


async def test_a_link_is_readable_in_the_file_that_just_dev_catches(db, user, settings, mailbox):
    token = await new_token(user.email)
    await send_password_reset(token)
    (mail,) = mailbox.messages
    assert f"\nhttp://127.0.0.1:8000/reset?token={token}\n" in mail.as_bytes().decode()


async def test_a_link_that_no_longer_works_is_not_sent(db, user, mailbox):
    token = await new_token(user.email)
    await reset_password(token, PASSWORD)

    result = await send_password_reset(token)
    assert result == {"status": "skipped", "reason": "link_expired"}
    assert mailbox.messages == []


async def test_both_versions_say_the_same(db, user, settings, mailbox):
    await send_welcome_email(str(user.id))
    await send_confirmation(await sign_up(user.email))
    await send_password_reset(await new_token(user.email))
    await send_password_changed(str(user.id))
    await send_address_changed(user.email)
    assert len(mailbox.messages) == 5

    for mail in mailbox.messages:
        html = visible_text(mail)
        plain = mail.get_body(("plain",)).get_content()
        assert set(LINK.findall(html)) == set(LINK.findall(plain))
        sentences = [line for line in plain.splitlines() if line and "link" not in line]
        assert len(sentences) >= 4
        for sentence in sentences:
            assert sentence == "-- " or sentence in html or LINK.fullmatch(sentence)
        assert f"{settings.service_name} sent this email to {user.email}" in html


async def test_a_deleted_user_gets_no_email(db, mailbox):
    assert await send_welcome_email(NO_ID) == USER_NOT_FOUND
    assert await send_password_changed(NO_ID) == USER_NOT_FOUND
    token = await new_token("nobody@example.com")
    assert await send_password_reset(token) == USER_NOT_FOUND
    assert mailbox.messages == []


async def test_an_email_on_a_real_worker(db, user, mailbox, running_worker):
    job = await send_welcome_email.enqueue(str(user.id))
    result = await job.result(timeout=30)

    assert result["status"] == "sent"
    assert [mail["To"] for mail in mailbox.messages] == [user.email]


async def test_the_token_of_a_reset_is_masked(db, user, mailbox, caplog):
    token = await new_token(user.email)
    job = await send_password_reset.enqueue(token)
    assert (await job.result(timeout=30))["status"] == "sent"
    assert token not in f"{caplog.text} {await job.record()}"
