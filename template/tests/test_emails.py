"""Mails: the tasks called directly, then as jobs on a real worker."""

from datetime import UTC, datetime, timedelta

from app.tasks.emails import send_daily_digest, send_digest, send_password_reset, send_welcome_email
from core.models import BlobModel, UserModel
from core.services.accounts import register
from core.testing import PASSWORD, eventually


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


async def test_a_user_who_is_gone_is_skipped(db, mailbox):
    result = await send_welcome_email("000000000000000000000000")

    assert result == {"status": "skipped", "reason": "user_not_found"}
    assert mailbox.messages == []


async def test_on_a_real_worker(db, user, mailbox, running_worker):
    job = await send_welcome_email.enqueue(str(user.id))
    result = await job.result(timeout=10)

    assert result["status"] == "sent"
    assert [mail["To"] for mail in mailbox.messages] == [user.email]


async def test_the_reset_mail_holds_the_token_and_no_log_line_does(db, user, mailbox, caplog):
    job = await send_password_reset.enqueue(str(user.id), "a-secret-token")
    assert (await job.result(timeout=10))["status"] == "sent"

    (mail,) = mailbox.messages
    for kind in ("html", "plain"):
        assert "http://127.0.0.1:8000/reset?token=a-secret-token" in mail.get_body((kind,)).get_content()
    assert "a-secret-token" not in f"{caplog.text} {await job.record()}"


async def test_the_digest_is_a_job_for_each_user(db, user, mailbox, running_worker, monkeypatch):
    monkeypatch.setattr("app.tasks.emails.BATCH", 2)
    others = [await register(f"{name}@example.com", PASSWORD, name) for name in ("bob", "eve", "joe")]
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for owner, time in ((user, yesterday), (others[0], yesterday), (others[1], yesterday - timedelta(days=1))):
        await BlobModel(name="a <file>.pdf", content_type="", size=0, owner=str(owner.id), created_at=time).insert()
    broken = {"$set": {"email": "no address"}}
    await UserModel.get_pymongo_collection().update_one({"_id": others[0].id}, broken)

    assert await send_daily_digest() == {"status": "completed", "queued_count": 4}
    again = await send_daily_digest.enqueue()
    assert await again.result(timeout=10) == {"status": "completed", "queued_count": 4}
    jobs = [await send_digest.enqueue(str(each.id), yesterday.date()) for each in (user, *others)]
    assert (await jobs[0].result(timeout=10))["status"] == "sent"
    for job in jobs[2:]:
        assert (await job.result(timeout=10))["reason"] == "nothing_to_tell"

    async def tried_again() -> bool:
        return await jobs[1].status() == "scheduled"

    await eventually(tried_again)  # alone

    (mail,) = mailbox.messages
    assert mail["To"] == user.email
    assert "a &lt;file&gt;.pdf" in mail.get_body(("html",)).get_content()
    assert "- a <file>.pdf" in mail.get_body(("plain",)).get_content()
