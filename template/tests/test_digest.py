"""The daily digest: its recipients, its files, and its link for unsubscribing."""

import logging
import re
from datetime import UTC, datetime, timedelta

import httpx2

from app.services.digest import unsubscribe_link
from app.services.user_email import show_day
from app.tasks.emails import send_daily_digest, send_digest
from core.models import AuditModel, BlobModel, UserModel
from core.services.accounts import register
from core.testing import PASSWORD, eventually

NO_ID = "000000000000000000000000"
USER_NOT_FOUND = {"status": "skipped", "reason": "user_not_found"}
UNSUBSCRIBED = {"status": "skipped", "reason": "unsubscribed"}
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
"""The form that mail readers send (RFC 8058)."""
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


def path_of(link: str) -> str:
    return link.removeprefix("http://127.0.0.1:8000")


async def test_a_digest_lists_the_files_of_one_day(db, user, mailbox):
    await store_file(user, "today.pdf", days_ago=0)
    await store_file(user, "a <file>.pdf", days_ago=1)
    await store_file(user, "older.pdf", days_ago=2)

    assert await send_digest(NO_ID, YESTERDAY) == USER_NOT_FOUND
    assert (await send_digest(str(user.id), YESTERDAY))["status"] == "sent"

    (mail,) = mailbox.messages
    assert mail["Subject"] == f"Your files from {show_day(YESTERDAY)}"
    html = mail.get_body(("html",)).get_content()
    text = mail.get_body(("plain",)).get_content()
    assert re.findall(r"<li>(.*)</li>", html) == ["a &lt;file&gt;.pdf"]
    assert re.findall(r"^- (.*)", text, re.MULTILINE) == ["a <file>.pdf"]


async def test_a_digest_of_many_files_is_short(db, user, mailbox):
    for number in range(52):
        await store_file(user, f"{number}.pdf", days_ago=1)
    await send_digest(str(user.id), YESTERDAY)

    (mail,) = mailbox.messages
    for kind in ("html", "plain"):
        body = mail.get_body((kind,)).get_content()
        assert "49.pdf" in body
        assert "50.pdf" not in body
        assert "And 2 more." in body


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
    assert await again.result(timeout=30) == queued

    # The idempotency key makes these the jobs that were enqueued above.
    sent = await send_digest.enqueue(str(user.id), YESTERDAY)
    assert (await sent.result(timeout=30))["status"] == "sent"
    for other in others:
        skipped = await send_digest.enqueue(str(other.id), YESTERDAY)
        assert (await skipped.result(timeout=30))["reason"] == "no_files"
    failed = await send_digest.enqueue(str(broken.id), YESTERDAY)

    async def is_retried() -> bool:
        return await failed.status() == "scheduled"

    await eventually(is_retried)
    (mail,) = mailbox.messages
    assert mail["To"] == user.email


async def test_a_mail_reader_unsubscribes_with_one_click(client, user, mailbox, caplog):
    caplog.set_level(logging.INFO)
    await store_file(user, "a.pdf", days_ago=1)
    await send_digest(str(user.id), YESTERDAY)
    (mail,) = mailbox.messages
    link = mail["List-Unsubscribe"].strip("<>")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    for kind in ("html", "plain"):
        assert link in mail.get_body((kind,)).get_content()

    for _ in range(2):  # a mail reader may repeat its request
        response = await client.post(path_of(link), data=ONE_CLICK)
        assert response.status_code == 200
    assert await send_digest(str(user.id), YESTERDAY) == UNSUBSCRIBED
    assert len(mailbox.messages) == 1
    entry = await AuditModel.find_one(AuditModel.action == "digest.unsubscribed")
    assert entry
    assert entry.actor == entry.subject == str(user.id)
    logged = [line for line in caplog.messages if "path=" in line]
    assert ["path=/digest " in line for line in logged] == [True, True]


async def test_the_page_changes_nothing_until_its_button_is_pressed(client, user, mailbox):
    await store_file(user, "a.pdf", days_ago=1)
    path = path_of(unsubscribe_link(str(user.id)))

    async def press(response: httpx2.Response, label: str) -> httpx2.Response:
        assert response.status_code == 200
        assert f">{label}</button>" in response.text
        fields = re.findall(r'<button name="(.+?)" value="(.+?)"', response.text)
        return await client.post(path, data=dict(fields))

    page = await client.get(path)
    page = await press(page, "Unsubscribe")
    assert await send_digest(str(user.id), YESTERDAY) == UNSUBSCRIBED
    assert "Subscribe again" in (await client.get(path)).text

    page = await press(page, "Subscribe again")
    assert "Unsubscribe" in page.text
    assert (await send_digest(str(user.id), YESTERDAY))["status"] == "sent"


async def test_a_forged_link_is_refused(client, user):
    path = path_of(unsubscribe_link(str(user.id)))
    for forged in (f"{path}x", f"/digest?token={user.id}"):
        for method in ("GET", "POST"):
            response = await client.request(method, forged)
            assert response.status_code == 404
            assert "not valid" in response.text
    await store_file(user, "a.pdf", days_ago=1)
    assert (await send_digest(str(user.id), YESTERDAY))["status"] == "sent"
