"""A user's own account: the password, the email address and the sessions."""

import pytest

from app.services.new_address import start_new_address
from core.models import AuditModel, EmailTokenModel, UserModel
from core.services.accounts import log_in, register, start_password_reset, start_sign_up
from core.services.limits import Limits
from core.testing import PASSWORD, eventually
from tests.test_accounts import client_at, find_token, text_of

NEW = "quite another password"
NEW_EMAIL = "lovelace@example.com"


async def actions() -> list[tuple[str, str | None]]:
    entries = await AuditModel.find_all().sort("_id").to_list()
    return [(entry.action, entry.actor) for entry in entries]


async def test_change_the_password(app, signed_in, user, mailbox, running_worker):
    _, reset = await start_password_reset(user.email, "127.0.0.1")
    form = {"password": PASSWORD, "new_password": NEW}
    wrong = await signed_in.post("/me/password", json={**form, "password": "a guess"})
    assert (wrong.status_code, wrong.json()) == (403, {"detail": "Wrong password."})
    leaked = await signed_in.post("/me/password", json={**form, "new_password": "password123"})
    assert leaked.status_code == 422

    async with client_at(app, "192.0.2.1") as other:
        await other.post("/login", json={"email": user.email, "password": PASSWORD})
        assert (await other.get("/me")).status_code == 200
        assert (await signed_in.post("/me/password", json=form)).status_code == 204
        assert (await other.get("/me")).status_code == 401
    assert (await signed_in.get("/me")).status_code == 200  # with a new session
    assert (await log_in(user.email, NEW, "127.0.0.1")).id == user.id
    answer = await signed_in.post("/reset", data={"token": reset, "password": PASSWORD})
    assert answer.status_code == 400
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["To"] == user.email
    assert "was changed" in mail["Subject"]
    noted = await actions()
    assert ("password.changed", str(user.id)) in noted
    log_ins = [action for action, _ in noted if action.startswith("login")]
    # Of the other client, and of the call above. A check of the password begins no session.
    assert log_ins == ["login.failed", "login.succeeded", "login.succeeded"]


async def test_change_the_address(signed_in, user, mailbox, running_worker):
    _, reset = await start_password_reset(user.email, "127.0.0.1")
    for email in (user.email, NEW_EMAIL):
        await start_sign_up(email, NEW, "Eve")
    form = {"password": PASSWORD, "new_email": NEW_EMAIL.upper()}
    wrong = await signed_in.post("/me/email", json={**form, "password": "a guess"})
    assert wrong.status_code == 403
    assert (await signed_in.post("/me/email", json=form)).status_code == 202
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["To"] == NEW_EMAIL
    assert "Lovelace" not in text_of(mail)
    token = find_token(mail, "new-email")
    assert (await signed_in.get("/me")).json()["email"] == user.email

    page = await signed_in.get(f"/new-email?token={token}")
    assert 'action="new-email"' in page.text
    wrong = await signed_in.post("/new-email", data={"token": token, "password": "a guess"})
    assert wrong.status_code == 400
    assert token in wrong.text
    confirmation = {"token": token, "password": PASSWORD}
    assert (await signed_in.post("/new-email", data=confirmation)).status_code == 200
    assert (await signed_in.post("/new-email", data=confirmation)).status_code == 400

    assert (await signed_in.get("/me")).json()["email"] == NEW_EMAIL
    assert (await log_in(NEW_EMAIL, PASSWORD, "127.0.0.1")).id == user.id
    answer = await signed_in.post("/reset", data={"token": reset, "password": NEW})
    assert answer.status_code == 400  # the link that the former address got
    await eventually(lambda: len(mailbox.messages) == 2)
    told = mailbox.messages[1]
    assert told["To"] == user.email
    assert NEW_EMAIL not in text_of(told)
    noted = [action for action, _ in await actions()]
    assert "email.changed" in noted
    assert noted.count("login.succeeded") == 1  # the call above
    assert await EmailTokenModel.count() == 0


async def test_a_new_address_does_not_reveal_accounts(
    signed_in, user, settings, mailbox, running_worker
):
    taken = await register("eve@example.com", PASSWORD, "Eve")
    answers = []
    for email in (taken.email, NEW_EMAIL):
        form = {"password": PASSWORD, "new_email": email}
        response = await signed_in.post("/me/email", json=form)
        answers.append((response.status_code, response.content))
    assert answers[0] == answers[1]
    await eventually(lambda: len(mailbox.messages) == 2)
    subjects = {mail["To"]: mail["Subject"] for mail in mailbox.messages}
    assert subjects[taken.email] == f"You already have an account at {settings.service_name}"
    with_link = [mail["To"] for mail in mailbox.messages if "?token=" in text_of(mail)]
    assert with_link == [NEW_EMAIL]


async def test_an_address_that_was_taken_meanwhile_is_refused(
    signed_in, user, mailbox, running_worker
):
    form = {"password": PASSWORD, "new_email": NEW_EMAIL}
    assert (await signed_in.post("/me/email", json=form)).status_code == 202
    (mail,) = await eventually(lambda: mailbox.messages)
    await register(NEW_EMAIL, NEW, "Another Ada")
    late = await start_new_address(user, NEW_EMAIL, "192.0.2.1")
    for token in (find_token(mail, "new-email"), late):
        confirmation = {"token": token, "password": PASSWORD}
        assert (await signed_in.post("/new-email", data=confirmation)).status_code == 400
    assert await UserModel.find(UserModel.email == NEW_EMAIL).count() == 1


async def test_a_link_for_one_purpose_does_not_serve_another(client, user):
    _, reset = await start_password_reset(user.email, "127.0.0.1")
    form = {"token": reset, "password": PASSWORD}
    for path in ("/confirm", "/new-email"):
        assert (await client.post(path, data=form)).status_code == 400
    assert (await client.post("/reset", data=form)).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/me/password", {"new_password": NEW}), ("/me/email", {"new_email": NEW_EMAIL})],
)
async def test_guessing_the_password_is_limited(signed_in, path, fields):
    for _ in range(10):
        wrong = await signed_in.post(path, json={"password": "a guess", **fields})
        assert wrong.status_code == 403
    refused = await signed_in.post(path, json={"password": PASSWORD, **fields})
    assert refused.status_code == 429


async def test_emails_to_new_addresses_are_limited(signed_in, stranger, monkeypatch):
    once = Limits("1 per hour", "100 per hour")
    monkeypatch.setattr("app.services.new_address.SIGN_UP", once)

    async def ask(client, email: str) -> int:
        form = {"password": PASSWORD, "new_email": email}
        return (await client.post("/me/email", json=form)).status_code

    assert await ask(signed_in, NEW_EMAIL) == 202
    assert await ask(stranger, NEW_EMAIL.upper()) == 429  # the address has had its email
    assert await ask(signed_in, "other@example.com") == 429  # and so has the user


async def test_a_long_token_is_refused(client):
    for path in ("/confirm", "/new-email", "/reset"):
        form = {"token": "x" * 101, "password": PASSWORD}
        assert (await client.post(path, data=form)).status_code == 422


async def test_the_newest_sessions_are_listed(app, signed_in, user, monkeypatch):
    monkeypatch.setattr("app.routes.profile.MAX_SESSIONS", 2)
    login = {"email": user.email, "password": PASSWORD}
    for name in ("older", "newer"):
        async with client_at(app, "192.0.2.1") as other:
            await other.post("/login", json=login, headers={"User-Agent": name})
    sessions = (await signed_in.get("/me/sessions")).json()
    assert [session["user_agent"] for session in sessions] == ["newer", "older"]


async def test_list_and_end_sessions(app, client, user, stranger):
    login = {"email": user.email, "password": PASSWORD}
    headers = {"User-Agent": "A browser"}
    async with client_at(app, "192.0.2.1") as other:
        assert (await other.post("/login", json=login)).status_code == 204
        for _ in range(2):  # the second log-in ends the browser's first session
            answer = await client.post("/login", json=login, headers=headers)
            assert answer.status_code == 204
        newest, oldest = (await client.get("/me/sessions")).json()
        assert newest["user_agent"] == "A browser"
        assert newest["started_at"] < newest["expires_at"]

        (strangers,) = (await stranger.get("/me/sessions")).json()
        for session_id in (strangers["id"], "0" * 24):
            answer = await client.delete(f"/me/sessions/{session_id}")
            assert answer.status_code == 404
        assert (await client.delete("/me/sessions/x")).status_code == 422
        answer = await client.delete(f"/me/sessions/{oldest['id']}")
        assert answer.status_code == 204
        assert (await other.get("/me")).status_code == 401
        assert (await client.get("/me")).status_code == 200

        assert (await other.post("/login", json=login)).status_code == 204
        assert (await client.delete("/me/sessions")).status_code == 204
        for ended in (client, other):
            assert (await ended.get("/me")).status_code == 401
    assert (await stranger.get("/me")).status_code == 200
    ended = [action for action, _ in await actions() if "ended" in action]
    assert ended == ["session.ended", "sessions.ended"]
