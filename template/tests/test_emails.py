"""The welcome mail: the task called directly, then as a job on a real worker."""

from app.tasks.emails import send_welcome_email


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
