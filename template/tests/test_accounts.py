"""Accounts: over HTTP, with the emails and their links."""

import re
from email.message import EmailMessage
from html import unescape

import httpx2
import pytest

from core.models import UserModel
from core.testing import PASSWORD, eventually

FORM = {
    "email": "Grace@Example.com",
    "password": "a long enough password",
    "display_name": "Grace",
}
EMAIL = "grace@example.com"


def find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern} is not in {text}"
    return match[1]


def find_token(mail: EmailMessage, page: str) -> str:
    """Return the token of the link to a page."""
    body = mail.get_body(("plain",))
    assert body
    return find(rf"http://127\.0\.0\.1:8000/{page}\?token=(\S+)", body.get_content())


def text_of(mail: EmailMessage) -> str:
    """Return all that a mail reader may show: the subject and both versions."""
    parts = [mail.get_body((kind,)) for kind in ("html", "plain")]
    return "".join([mail["Subject"], *(part.get_content() for part in parts if part)])


def client_at(app, address: str) -> httpx2.AsyncClient:
    """Return a client with another network address and no cookies."""
    transport = httpx2.ASGITransport(app, client=(address, 50000))
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


async def log_in(client, email: str, password: str):
    return await client.post("/login", json={"email": email, "password": password})


async def sign_up(client, **changes: str):
    return await client.post("/signup", json={**FORM, **changes})


async def confirm(client, token: str, password: str = FORM["password"]):
    return await client.post("/confirm", data={"token": token, "password": password})


async def test_sign_up_confirm_log_in_and_log_out(client, settings, mailbox, running_worker):
    response = await client.post("/signup", json=FORM, headers={"X-Request-ID": "signup-1"})
    assert response.status_code == 202
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["To"] == EMAIL
    assert mail["Subject"] == f"Confirm your email address at {settings.service_name}"
    assert mail["X-Correlation-ID"] == "signup-1"
    assert "Grace" not in text_of(mail).replace(EMAIL, "")
    token = find_token(mail, "confirm")

    assert (await log_in(client, EMAIL, FORM["password"])).status_code == 401
    page = await client.get(f"/confirm?token={token}")
    assert page.headers["referrer-policy"] == "same-origin"
    assert find(r'name="token" value="(.+?)"', page.text) == token
    assert find(r'action="(.+?)"', page.text) == "confirm"
    assert (await log_in(client, EMAIL, FORM["password"])).status_code == 401

    refused = await confirm(client, token, "another password")
    assert refused.status_code == 400
    assert "Wrong password" in refused.text
    assert token in refused.text  # the form is shown again
    assert (await confirm(client, token)).status_code == 200
    assert (await confirm(client, token)).status_code == 400  # a token works once

    assert (await log_in(client, "grace@example.COM", FORM["password"])).status_code == 204
    me = (await client.get("/me")).json()
    assert me == {
        "user_id": me["user_id"],
        "email": EMAIL,
        "display_name": "Grace",
        "is_admin": False,
    }
    job = (await client.get(f"/jobs/{response.json()['job_id']}")).json()
    assert job["result"] == {"status": "sent", "user_email": EMAIL}
    await eventually(lambda: len(mailbox.messages) == 2)
    welcome = mailbox.messages[1]
    assert welcome["Subject"] == f"Welcome to {settings.service_name}!"
    assert "Welcome, Grace!" in text_of(welcome)

    cookie = dict(client.cookies)
    assert (await client.post("/logout")).status_code == 204
    assert (await client.get("/me")).status_code == 401
    client.cookies.update(cookie)  # the session itself has ended
    assert (await client.get("/me")).status_code == 401


async def test_sign_up_does_not_reveal_accounts(
    client, user, db, settings, mailbox, running_worker
):
    answers = []
    for email in (EMAIL, user.email):
        response = await sign_up(client, email=email)
        refused = await log_in(client, email, FORM["password"])
        answers.append(
            (
                response.status_code,
                response.json().keys(),
                response.headers.keys(),
                refused.status_code,
                refused.json(),
            )
        )
    assert answers[0] == answers[1]
    assert answers[0][0] == 202
    assert "set-cookie" not in answers[0][2]
    stored = await db["email_tokens"].find().to_list()
    assert [document.keys() for document in stored] == [stored[0].keys()] * 2
    await eventually(lambda: len(mailbox.messages) == 2)
    assert {mail["To"]: mail["Subject"] for mail in mailbox.messages} == {
        EMAIL: f"Confirm your email address at {settings.service_name}",
        user.email: f"You already have an account at {settings.service_name}",
    }


async def test_signing_up_again_sends_a_new_link(client, mailbox, running_worker):
    """A link works only with the password of its sign-up. Somebody else may have made another."""
    for password in ("password of eve", FORM["password"]):
        assert (await sign_up(client, password=password)).status_code == 202
    await eventually(lambda: len(mailbox.messages) == 2)
    tokens = [find_token(mail, "confirm") for mail in mailbox.messages]

    answers = [await confirm(client, token) for token in tokens]
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert (await confirm(client, tokens[0], "password of eve")).status_code == 400
    assert (await log_in(client, EMAIL, "password of eve")).status_code == 401
    assert (await log_in(client, EMAIL, FORM["password"])).status_code == 204


async def test_nothing_can_be_set_up_before_the_address_is_confirmed(
    client, mailbox, running_worker
):
    await sign_up(client, display_name="Squatter", password="password of eve")
    await log_in(client, EMAIL, "password of eve")
    assert (await client.get("/me")).status_code == 401
    assert await UserModel.count() == 0  # so no document can belong to it
    await eventually(lambda: mailbox.messages)

    assert (await client.post("/password-reset", json={"email": EMAIL})).status_code == 202
    await eventually(lambda: len(mailbox.messages) == 2)
    eves, reset = mailbox.messages
    assert "Squatter" not in text_of(reset)
    form = {"token": find_token(reset, "reset"), "password": "password of grace"}
    assert (await client.post("/reset", data=form)).status_code == 200

    assert (await log_in(client, EMAIL, "password of eve")).status_code == 401
    answer = await confirm(client, find_token(eves, "confirm"), "password of eve")
    assert answer.status_code == 400
    assert (await log_in(client, EMAIL, "password of grace")).status_code == 204
    me = (await client.get("/me")).json()
    assert me["display_name"] == "grace"


async def test_log_in_does_not_reveal_accounts(client, user):
    wrong = await log_in(client, user.email, "a wrong one")
    unknown = await log_in(client, "x@example.com", "any")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()


async def test_a_reset_does_not_reveal_accounts(client, user):
    for email in (user.email, "x@example.com"):
        response = await client.post("/password-reset", json={"email": email})
        assert response.status_code == 202
        message = "If this address has an account, an email with a link is on its way."
        assert response.json() == {"message": message}


async def test_reset_a_password(client, signed_in, user, mailbox, running_worker, settings):
    response = await client.post("/password-reset", json={"email": user.email.upper()})
    assert response.status_code == 202
    (mail,) = await eventually(lambda: mailbox.messages)
    page = await client.get(f"/reset?token={find_token(mail, 'reset')}")
    assert f"<header>{settings.service_name}</header>" in unescape(page.text)
    assert page.headers["referrer-policy"] == "same-origin"
    token = find(r'name="token" value="(.+?)"', page.text)
    too_short = await client.post("/reset", data={"token": token, "password": "short"})
    assert too_short.status_code == 422
    leaked = await client.post("/reset", data={"token": token, "password": "Password123"})
    assert leaked.status_code == 400
    assert "leaked" in leaked.text
    assert token in leaked.text  # the form is shown again
    form = {"token": token, "password": "a new password"}
    assert (await client.post("/reset", data=form)).status_code == 200
    assert (await client.post("/reset", data=form)).status_code == 400  # a token works once

    assert (await client.get("/me")).status_code == 401  # old sessions have ended
    assert (await log_in(client, user.email, PASSWORD)).status_code == 401
    assert (await log_in(client, user.email, "a new password")).status_code == 204
    await eventually(lambda: len(mailbox.messages) == 2)
    told = mailbox.messages[1]
    assert "was changed" in told["Subject"]
    assert "webhooks" in text_of(told)  # what a thief set up does not end


async def test_guessing_passwords_is_limited(client, user):
    for _ in range(10):
        assert (await log_in(client, user.email, "a guess")).status_code == 401
    refused = await log_in(client, user.email, PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 300
    assert (await log_in(client, "other@example.com", "a guess")).status_code == 401


async def test_guesses_from_elsewhere_lock_nobody_out(app, client, user):
    async with client_at(app, "192.0.2.1") as eve, client_at(app, "192.0.2.2") as ada:
        for _ in range(10):
            assert (await log_in(eve, user.email, "a guess")).status_code == 401
        assert (await log_in(eve, user.email, PASSWORD)).status_code == 429
        assert (await log_in(ada, user.email, PASSWORD)).status_code == 204
        assert (await log_in(client, user.email, PASSWORD)).status_code == 204


async def test_guesses_do_not_lock_out_the_browser_that_confirmed_the_address(
    app, client, mailbox, running_worker
):
    await sign_up(client)
    (mail,) = await eventually(lambda: mailbox.messages)
    assert (await confirm(client, find_token(mail, "confirm"))).status_code == 200
    async with client_at(app, "127.0.0.1") as eve:
        for _ in range(11):
            refused = await log_in(eve, EMAIL, "a guess")
        assert refused.status_code == 429
    assert (await log_in(client, EMAIL, FORM["password"])).status_code == 204


async def test_guesses_from_the_same_network_do_not_lock_out_a_known_browser(app, client, user):
    assert (await log_in(client, user.email, PASSWORD)).status_code == 204
    form = {"email": user.email}
    async with client_at(app, "127.0.0.1") as eve:
        for _ in range(10):
            refused = await log_in(eve, user.email, "a guess")
        for _ in range(6):
            no_mail = await eve.post("/password-reset", json=form)
        assert (refused.status_code, no_mail.status_code) == (429, 429)
    assert (await log_in(client, user.email, PASSWORD)).status_code == 204
    assert (await client.post("/password-reset", json=form)).status_code == 202


async def test_emails_of_many_clients_to_one_address_are_bounded(app, user):
    statuses = []
    for number in range(12):
        async with client_at(app, f"192.0.2.{number}") as eve:
            response = await eve.post("/password-reset", json={"email": user.email})
            statuses.append(response.status_code)
    assert statuses == [202] * 10 + [429] * 2


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/password-reset", {}),
        ("/signup", {"password": PASSWORD, "display_name": "Ada"}),
    ],
)
async def test_emails_to_one_address_are_limited(client, user, path, fields):
    statuses = []
    for email in [user.email, user.email.upper()] * 3:
        response = await client.post(path, json={"email": email, **fields})
        statuses.append(response.status_code)
    assert statuses == [202] * 5 + [429]


@pytest.mark.parametrize(
    "name",
    [
        "Ada\nVisit us",
        "Ada\u2028Visit us",
        "Ada\u202egnp",
        "Visit https://evil.example",
        "Visit evil.example now",
        "Visit evil\u3002example",
        "Visit evil.\u200dexample",
        "Visit evil\uff0eexample",
        "Visit evil\u2024example",
        "Visit Evil.Example",
        "Visit 192.0.2.1",
        "Visit evil.\u09ad\u09be\u09b0\u09a4",
        "https:evil",
        "Write to mailto:eve",
        "Call tel:110",
        "eve\uff20evil",
        "eve@evil.example",
        "x" * 101,
    ],
)
async def test_a_name_is_one_short_line_without_links(client, name):
    response = await sign_up(client, display_name=name)
    assert response.status_code == 422
    assert [error["loc"][-1] for error in response.json()["detail"]] == ["display_name"]


@pytest.mark.parametrize(
    "name",
    [
        "J. R. R. Tolkien",
        "J.R.R. Tolkien",
        "J.R.R.",
        "J.-P. Sartre",
        "Dr. Smith",
        "St. John",
        "Zoë O'Brien",
        "علی\u200cرضا",
        "山田 太郎",
        "Kumar s/o Ravi",
    ],
)
async def test_names_of_people_are_accepted(client, name):
    assert (await sign_up(client, display_name=name)).status_code == 202


async def test_leaked_passwords_are_refused(client):
    for password in ("password123", "QWERTYUIOP"):
        response = await sign_up(client, password=password)
        assert response.status_code == 422
        (problem,) = response.json()["detail"]
        assert problem["loc"][-1] == "password"
        assert "leaked" in problem["msg"]


@pytest.mark.parametrize("email", ["nobody", "a@b@example.com"])
async def test_an_invalid_form_is_refused(client, email):
    form = {"email": email, "password": "short", "display_name": " "}
    response = await client.post("/signup", json=form)

    assert response.status_code == 422
    fields = {error["loc"][-1] for error in response.json()["detail"]}
    assert fields == {"email", "password", "display_name"}
    assert await UserModel.count() == 0
