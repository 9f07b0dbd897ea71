"""Mails: the tasks called directly, then as jobs on a real worker."""

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

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


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


@pytest.mark.parametrize(
    ("task", "more", "subject", "line"),
    [
        (send_already_signed_up, [], "You already have an account", "ask for a new password"),
        (
            send_password_reset,
            ["t-1"],
            "Reset your password",
            "http://127.0.0.1:8000/reset?token=t-1",
        ),
    ],
)
async def test_other_mails(db, user, mailbox, task, more, subject, line):
    assert await task(str(user.id), *more) == {"status": "sent", "user_email": user.email}

    (mail,) = mailbox.messages
    assert mail["Subject"] == subject
    for kind in ("html", "plain"):
        assert line in mail.get_body((kind,)).get_content()


@pytest.mark.parametrize(
    ("task", "more"),
    [
        (send_welcome_email, []),
        (send_already_signed_up, []),
        (send_password_reset, ["t-1"]),
    ],
)
async def test_a_user_who_is_gone_is_skipped(db, mailbox, task, more):
    result = await task("000000000000000000000000", *more)

    assert result == {"status": "skipped", "reason": "user_not_found"}
    assert mailbox.messages == []


async def test_on_a_real_worker(db, user, mailbox, running_worker):
    job = await send_welcome_email.enqueue(str(user.id))
    result = await job.result(timeout=10)

    assert result["status"] == "sent"
    assert [mail["To"] for mail in mailbox.messages] == [user.email]


async def test_no_log_line_holds_the_token_of_a_reset(db, user, mailbox, caplog):
    job = await send_password_reset.enqueue(str(user.id), "a-secret-token")
    assert (await job.result(timeout=10))["status"] == "sent"
    assert "a-secret-token" not in f"{caplog.text} {await job.record()}"


async def test_a_digest_tells_of_one_day(db, user, mailbox):
    for days, name in ((0, "of today.pdf"), (1, "a <file>.pdf"), (2, "older.pdf")):
        time = datetime.now(UTC) - timedelta(days=days)
        await BlobModel(
            name=name, content_type="", size=0, owner=str(user.id), created_at=time
        ).insert()

    nobodys = await send_digest("000000000000000000000000", YESTERDAY)
    assert nobodys == {"status": "skipped", "reason": "user_not_found"}
    assert (await send_digest(str(user.id), YESTERDAY))["status"] == "sent"
    (mail,) = mailbox.messages
    assert mail["Subject"] == f"Your files from {YESTERDAY}"
    assert re.findall(r"<li>(.*)</li>", mail.get_body(("html",)).get_content()) == [
        "a &lt;file&gt;.pdf"
    ]
    assert re.findall(r"^- (.*)", mail.get_body(("plain",)).get_content(), re.MULTILINE) == [
        "a <file>.pdf"
    ]


async def test_the_digest_is_a_job_for_each_user(db, user, mailbox, running_worker, monkeypatch):
    monkeypatch.setattr("app.tasks.emails.BATCH", 2)
    others = [
        await register(f"{name}@example.com", PASSWORD, name) for name in ("bob", "eve", "joe")
    ]
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for owner in (user, others[0]):
        await BlobModel(
            name="a.pdf", content_type="", size=0, owner=str(owner.id), created_at=yesterday
        ).insert()
    broken = {"$set": {"email": "no address"}}
    await UserModel.get_pymongo_collection().update_one({"_id": others[0].id}, broken)

    assert await send_daily_digest() == {"status": "completed", "queued_count": 4}
    again = await send_daily_digest.enqueue()
    assert await again.result(timeout=10) == {"status": "completed", "queued_count": 4}
    jobs = [await send_digest.enqueue(str(each.id), YESTERDAY) for each in (user, *others)]
    assert (await jobs[0].result(timeout=10))["status"] == "sent"
    for job in jobs[2:]:
        assert (await job.result(timeout=10))["reason"] == "nothing_to_tell"

    async def tried_again() -> bool:
        return await jobs[1].status() == "scheduled"

    await eventually(tried_again)  # alone

    (mail,) = mailbox.messages
    assert mail["To"] == user.email
