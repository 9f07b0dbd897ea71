"""Accounts: over HTTP, to the mails that arrive and the link in them."""

import re

import pytest

from core.models import UserModel
from core.testing import PASSWORD, eventually

FORM = {"email": "Grace@Example.com", "password": "a long enough password", "display_name": "Grace"}


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"{pattern} is not in {text}"
    return match[1]


async def log_in(client, email: str, password: str):
    return await client.post("/login", json={"email": email, "password": password})


async def test_sign_up_log_in_and_out(client, mailbox, running_worker):
    response = await client.post("/signup", json=FORM, headers={"X-Request-ID": "signup-1"})
    assert response.status_code == 202
    assert (await client.get("/me")).status_code == 401

    assert (await log_in(client, "grace@example.COM", FORM["password"])).status_code == 204
    me = (await client.get("/me")).json()
    assert (me["email"], me["display_name"], me["is_admin"]) == (
        "grace@example.com",
        "Grace",
        False,
    )
    (mail,) = await eventually(lambda: mailbox.messages)
    assert (mail["To"], mail["Subject"]) == ("grace@example.com", "Welcome!")
    assert mail["X-Correlation-ID"] == "signup-1"

    cookie = dict(client.cookies)
    assert (await client.post("/logout")).status_code == 204
    assert (await client.get("/me")).status_code == 401
    client.cookies.update(cookie)  # the session itself has ended
    assert (await client.get("/me")).status_code == 401


async def test_nobody_learns_who_has_an_account(client, user, mailbox, running_worker):
    new = await client.post("/signup", json=FORM)
    known = await client.post("/signup", json={**FORM, "email": user.email})
    assert (new.status_code, new.json().keys()) == (known.status_code, known.json().keys())
    assert "set-cookie" not in new.headers
    assert (
        await log_in(client, user.email, FORM["password"])
    ).status_code == 401  # nothing was changed
    await eventually(lambda: len(mailbox.messages) == 2)
    assert {mail["To"]: mail["Subject"] for mail in mailbox.messages} == {
        "grace@example.com": "Welcome!",
        user.email: "You already have an account",
    }

    wrong, unknown = (
        await log_in(client, user.email, "a wrong one"),
        await log_in(client, "x@example.com", "any"),
    )
    assert (wrong.status_code, wrong.json()) == (unknown.status_code, unknown.json())
    asked = [
        await client.post("/password-reset", json={"email": email})
        for email in (user.email, "x@example.com")
    ]
    assert {(response.status_code, response.content) for response in asked} == {(202, b"null")}


async def test_a_new_password_by_mail(client, signed_in, user, mailbox, running_worker):
    assert (
        await client.post("/password-reset", json={"email": user.email.upper()})
    ).status_code == 202
    (mail,) = await eventually(lambda: mailbox.messages)
    link = found(
        r"http://127\.0\.0\.1:8000(/reset\?token=\S+)", mail.get_body(("plain",)).get_content()
    )

    page = await client.get(link)
    assert page.headers["referrer-policy"] == "no-referrer"
    token = found(r'name="token" value="(.+?)"', page.text)
    too_short = await client.post("/reset", data={"token": token, "password": "short"})
    assert too_short.status_code == 422
    form = {"token": token, "password": "a new password"}
    assert (await client.post("/reset", data=form)).status_code == 200
    assert (await client.post("/reset", data=form)).status_code == 400  # once only

    assert (await client.get("/me")).status_code == 401  # whoever had the old one is out
    assert (await log_in(client, user.email, PASSWORD)).status_code == 401
    assert (await log_in(client, user.email, "a new password")).status_code == 204


async def test_guessing_ends(client, user):
    for _ in range(10):
        assert (await log_in(client, user.email, "a guess")).status_code == 401
    refused = await log_in(client, user.email, PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 300
    assert (await log_in(client, "other@example.com", "a guess")).status_code == 401


@pytest.mark.parametrize(
    ("path", "more"),
    [("/password-reset", {}), ("/signup", {"password": PASSWORD, "display_name": "Ada"})],
)
async def test_nobodys_mailbox_is_flooded(client, user, path, more):
    spellings = [user.email, user.email.upper()] * 3
    answers = [
        (await client.post(path, json={"email": email, **more})).status_code for email in spellings
    ]
    assert answers == [202] * 5 + [429]


@pytest.mark.parametrize("email", ["nobody", "a@b@example.com"])
async def test_a_wrong_form_is_refused(client, email):
    response = await client.post(
        "/signup", json={"email": email, "password": "short", "display_name": " "}
    )

    assert response.status_code == 422
    assert {error["loc"][-1] for error in response.json()["detail"]} == {
        "email",
        "password",
        "display_name",
    }
    assert await UserModel.count() == 0
