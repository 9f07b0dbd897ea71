"""Accounts: over HTTP, with the emails and their links."""

import re

import pytest

from core.models import UserModel
from core.testing import PASSWORD, eventually

FORM = {
    "email": "Grace@Example.com",
    "password": "a long enough password",
    "display_name": "Grace",
}


def find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern} is not in {text}"
    return match[1]


async def log_in(client, email: str, password: str):
    return await client.post("/login", json={"email": email, "password": password})


async def test_sign_up_log_in_and_log_out(client, settings, mailbox, running_worker):
    response = await client.post("/signup", json=FORM, headers={"X-Request-ID": "signup-1"})
    assert response.status_code == 202
    assert (await client.get("/me")).status_code == 401

    assert (await log_in(client, "grace@example.COM", FORM["password"])).status_code == 204
    me = (await client.get("/me")).json()
    assert me == {
        "user_id": me["user_id"],
        "email": "grace@example.com",
        "display_name": "Grace",
        "is_admin": False,
    }
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["To"] == "grace@example.com"
    assert mail["Subject"] == f"Welcome to {settings.service_name}!"
    assert mail["X-Correlation-ID"] == "signup-1"

    cookie = dict(client.cookies)
    assert (await client.post("/logout")).status_code == 204
    assert (await client.get("/me")).status_code == 401
    client.cookies.update(cookie)  # the session itself has ended
    assert (await client.get("/me")).status_code == 401


async def test_sign_up_does_not_reveal_accounts(client, user, settings, mailbox, running_worker):
    new = await client.post("/signup", json=FORM)
    known = await client.post("/signup", json={**FORM, "email": user.email})

    assert (new.status_code, new.json().keys()) == (known.status_code, known.json().keys())
    assert "set-cookie" not in new.headers
    # The password of the account is unchanged.
    assert (await log_in(client, user.email, FORM["password"])).status_code == 401
    await eventually(lambda: len(mailbox.messages) == 2)
    assert {mail["To"]: mail["Subject"] for mail in mailbox.messages} == {
        "grace@example.com": f"Welcome to {settings.service_name}!",
        user.email: f"You already have an account at {settings.service_name}",
    }


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


async def test_reset_a_password(client, signed_in, user, mailbox, running_worker):
    response = await client.post("/password-reset", json={"email": user.email.upper()})
    assert response.status_code == 202
    (mail,) = await eventually(lambda: mailbox.messages)
    text = mail.get_body(("plain",)).get_content()
    link = find(r"http://127\.0\.0\.1:8000(/reset\?token=\S+)", text)

    page = await client.get(link)
    assert page.headers["referrer-policy"] == "same-origin"
    token = find(r'name="token" value="(.+?)"', page.text)
    too_short = await client.post("/reset", data={"token": token, "password": "short"})
    assert too_short.status_code == 422
    form = {"token": token, "password": "a new password"}
    assert (await client.post("/reset", data=form)).status_code == 200
    assert (await client.post("/reset", data=form)).status_code == 400  # a token works once

    assert (await client.get("/me")).status_code == 401  # old sessions have ended
    assert (await log_in(client, user.email, PASSWORD)).status_code == 401
    assert (await log_in(client, user.email, "a new password")).status_code == 204


async def test_guessing_passwords_is_limited(client, user):
    for _ in range(10):
        assert (await log_in(client, user.email, "a guess")).status_code == 401
    refused = await log_in(client, user.email, PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 300
    assert (await log_in(client, "other@example.com", "a guess")).status_code == 401


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


@pytest.mark.parametrize("email", ["nobody", "a@b@example.com"])
async def test_an_invalid_form_is_refused(client, email):
    form = {"email": email, "password": "short", "display_name": " "}
    response = await client.post("/signup", json=form)

    assert response.status_code == 422
    fields = {error["loc"][-1] for error in response.json()["detail"]}
    assert fields == {"email", "password", "display_name"}
    assert await UserModel.count() == 0
