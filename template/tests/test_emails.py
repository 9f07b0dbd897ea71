"""Emails: the tasks called directly, and as jobs on a real worker."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from app.tasks.emails import (
    send_already_signed_up,
    send_daily_digest,
    send_digest,
    send_password_reset,
    send_welcome_email,
)
from core.models import BlobModel, UserModel
from core.services.accounts import register
from core.testing import PASSWORD, eventually

NO_ID = "000000000000000000000000"
USER_NOT_FOUND = {"status": "skipped", "reason": "user_not_found"}
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


async def store_file(user: UserModel, name: str, days_ago: int) -> None:
    created_at = datetime.now(UTC) - timedelta(days=days_ago)
    blob = BlobModel(
        name=name,
        content_type="",
        size=0,
        owner=str(user.id),
        created_at=created_at,
    )
    await blob.insert()


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


async def test_send_already_signed_up(db, user, mailbox):
    result = await send_already_signed_up(str(user.id))

    assert result == {"status": "sent", "user_email": user.email}
    (mail,) = mailbox.messages
    assert mail["Subject"] == "You already have an account"
    for kind in ("html", "plain"):
        assert "ask for a new password" in mail.get_body((kind,)).get_content()


async def test_send_password_reset(db, user, mailbox):
    result = await send_password_reset(str(user.id), "t-1")

    assert result == {"status": "sent", "user_email": user.email}
    (mail,) = mailbox.messages
    assert mail["Subject"] == "Reset your password"
    for kind in ("html", "plain"):
        body = mail.get_body((kind,)).get_content()
        assert "http://127.0.0.1:8000/reset?token=t-1" in body


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (send_welcome_email, []),
        (send_already_signed_up, []),
        (send_password_reset, ["t-1"]),
    ],
)
async def test_a_deleted_user_gets_no_email(db, mailbox, task, arguments):
    assert await task(NO_ID, *arguments) == USER_NOT_FOUND
    assert mailbox.messages == []


async def test_an_email_on_a_real_worker(db, user, mailbox, running_worker):
    job = await send_welcome_email.enqueue(str(user.id))
    result = await job.result(timeout=10)

    assert result["status"] == "sent"
    assert [mail["To"] for mail in mailbox.messages] == [user.email]


async def test_the_token_of_a_reset_is_masked(db, user, mailbox, caplog):
    job = await send_password_reset.enqueue(str(user.id), "a-secret-token")
    assert (await job.result(timeout=10))["status"] == "sent"
    assert "a-secret-token" not in f"{caplog.text} {await job.record()}"


async def test_a_digest_lists_the_files_of_one_day(db, user, mailbox):
    await store_file(user, "today.pdf", days_ago=0)
    await store_file(user, "a <file>.pdf", days_ago=1)
    await store_file(user, "older.pdf", days_ago=2)

    assert await send_digest(NO_ID, YESTERDAY) == USER_NOT_FOUND
    assert (await send_digest(str(user.id), YESTERDAY))["status"] == "sent"

    (mail,) = mailbox.messages
    assert mail["Subject"] == f"Your files from {YESTERDAY}"
    html = mail.get_body(("html",)).get_content()
    text = mail.get_body(("plain",)).get_content()
    assert re.findall(r"<li>(.*)</li>", html) == ["a &lt;file&gt;.pdf"]
    assert re.findall(r"^- (.*)", text, re.MULTILINE) == ["a <file>.pdf"]


async def test_each_user_gets_one_digest(db, user, mailbox, running_worker, monkeypatch):
    monkeypatch.setattr("app.tasks.emails.USER_BATCH", 2)
    broken, *others = [
        await register(f"{name}@example.com", PASSWORD, name) for name in ("bob", "eve", "joe")
    ]
    await store_file(user, "a.pdf", days_ago=1)
    await store_file(broken, "a.pdf", days_ago=1)
    invalid = {"$set": {"email": "no address"}}
    await UserModel.get_pymongo_collection().update_one({"_id": broken.id}, invalid)

    queued = {"status": "completed", "queued_count": 4}
    assert await send_daily_digest() == queued
    again = await send_daily_digest.enqueue()
    assert await again.result(timeout=10) == queued

    # The idempotency key makes these the jobs that were enqueued above.
    sent = await send_digest.enqueue(str(user.id), YESTERDAY)
    assert (await sent.result(timeout=10))["status"] == "sent"
    for other in others:
        skipped = await send_digest.enqueue(str(other.id), YESTERDAY)
        assert (await skipped.result(timeout=10))["reason"] == "no_files"
    failed = await send_digest.enqueue(str(broken.id), YESTERDAY)

    async def is_retried() -> bool:
        return await failed.status() == "scheduled"

    await eventually(is_retried)
    (mail,) = mailbox.messages
    assert mail["To"] == user.email
