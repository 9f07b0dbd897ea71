"""Accounts, sessions and limits, where they could be got round."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import Annotated

import pytest
from bson import ObjectId
from fastapi import Body
from pydantic import EmailStr

from core.config import get_settings
from core.models import AuditModel, ResetTokenModel, SessionModel, UserModel
from core.services.accounts import (
    EmailTaken,
    InvalidToken,
    WrongCredentials,
    log_in,
    register,
    reset_password,
    start_password_reset,
)
from core.services.audit import audit_log
from core.services.limits import Limits, TooManyRequests, check_limits, network_of
from core.services.sessions import find_user, start_session
from core.testing import PASSWORD

NEW = "quite another password"


async def test_one_address_has_one_account(db):
    user = await register("Bob@Example.com", PASSWORD, "Bob")
    with pytest.raises(EmailTaken) as taken:
        await register("bob@example.COM", PASSWORD, "Bob once more")
    assert taken.value.user.id == user.id
    several = [register("eve@example.com", PASSWORD, "Eve") for _ in range(3)]
    both = await asyncio.gather(*several, return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["EmailTaken", "EmailTaken", "UserModel"]


async def test_what_the_database_holds_lets_nobody_in(db, user):
    session = await start_session(user)
    _, token = await start_password_reset(user.email, "127.0.0.1")
    stored = [await db[name].find().to_list() for name in await db.list_collection_names()]
    for secret in (session, token, PASSWORD):
        assert secret not in str(stored)


async def test_a_token_works_once_also_for_two_at_once(user):
    _, token = await start_password_reset(user.email, "127.0.0.1")
    session = await start_session(user)
    tries = await asyncio.gather(
        *(reset_password(token, f"{NEW} {number}") for number in range(3)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in tries) == [
        "InvalidToken",
        "InvalidToken",
        "UserModel",
    ]
    assert await find_user(session) is None
    winner = next(number for number, each in enumerate(tries) if isinstance(each, UserModel))
    assert (await log_in(user.email, f"{NEW} {winner}", "127.0.0.1")).id == user.id


async def test_a_reset_ends_all_links_that_were_sent(user):
    tokens = [(await start_password_reset(user.email, "127.0.0.1"))[1] for _ in range(2)]
    await reset_password(tokens[0], NEW)
    with pytest.raises(InvalidToken):
        await reset_password(tokens[1], PASSWORD)


async def test_an_expired_token_is_none(user, monkeypatch):
    monkeypatch.setattr("core.services.accounts.resets.RESET_LIFETIME", timedelta(seconds=-1))
    _, token = await start_password_reset(user.email, "127.0.0.1")
    with pytest.raises(InvalidToken):
        await reset_password(token, NEW)


async def test_an_unknown_address_gets_what_a_known_one_gets(user):
    answers = [
        await start_password_reset(email, "127.0.0.1")
        for email in (user.email, "nobody@example.com")
    ]
    assert [(len(user_id), len(token)) for user_id, token in answers] == [(24, 43)] * 2
    assert await ResetTokenModel.count() == 2
    with pytest.raises(InvalidToken):
        await reset_password(answers[1][1], NEW)


async def test_an_unknown_address_takes_as_much_work_as_a_wrong_password(user, monkeypatch):
    from core.services.accounts import passwords

    verified: list[str] = []
    verify = passwords._hasher().verify_and_update

    def verify_and_note(password: str, password_hash: str) -> object:
        verified.append(password_hash)
        return verify(password, password_hash)

    monkeypatch.setattr(passwords._hasher(), "verify_and_update", verify_and_note)
    for email in (user.email, "nobody@example.com"):
        with pytest.raises(WrongCredentials):
            await log_in(email, "wrong", "127.0.0.1")
    assert len(verified) == 2
    assert {each.rsplit("$", 2)[0] for each in verified} == {"$argon2id$v=19$m=65536,t=3,p=4"}


async def test_an_account_without_a_password_cannot_be_logged_in_to(user):
    await user.set({UserModel.password_hash: None})
    for password in ("", PASSWORD):
        with pytest.raises(WrongCredentials):
            await log_in(user.email, password, "127.0.0.1")


async def test_an_old_hash_is_renewed_at_the_next_log_in(user):
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    weak = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=1024)]).hash(PASSWORD)
    await user.set({UserModel.password_hash: weak})
    await log_in(user.email, PASSWORD, "127.0.0.1")
    renewed = await UserModel.get(user.id)
    assert renewed
    assert "m=65536" in str(renewed.password_hash)
    assert (await log_in(user.email, PASSWORD, "127.0.0.1")).id == user.id


async def test_limits_count_by_address_and_by_client(db):
    limits = Limits("2 per minute", "4 per minute")
    for address in ("a@example.com", "a@example.com", "b@example.com"):
        await check_limits("test", limits, address, "192.0.2.1")
    with pytest.raises(TooManyRequests) as refused:
        await check_limits("test", limits, "a@example.com", "192.0.2.2")
    assert 1 <= refused.value.retry_after <= 60
    await check_limits("test", limits, "c@example.com", "192.0.2.1")
    with pytest.raises(TooManyRequests):
        await check_limits("test", limits, "d@example.com", "192.0.2.1")
    await check_limits("another", limits, "a@example.com", "192.0.2.1")


async def test_many_at_once_do_not_get_past_a_limit(db):
    limits = Limits("5 per minute", "1000 per minute")
    tries = [check_limits("test", limits, "a@example.com", "192.0.2.1") for _ in range(40)]
    passed = [
        error for error in await asyncio.gather(*tries, return_exceptions=True) if error is None
    ]
    assert len(passed) == 5


def test_a_network_of_ipv6_is_one_client():
    assert (
        network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    )
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"


def admin(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "core", "admin", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60)


async def test_an_administrator_is_made_from_the_command_line(client, signed_in, user):
    assert (await client.get("/audit-log")).status_code == 403
    for email in (user.email.upper(), "root@example.com"):
        done = await asyncio.to_thread(admin, email, typed=f"{NEW}\n")
        assert done.stdout.startswith(f"{email.lower()} is an administrator")
        assert (await log_in(email, NEW, "127.0.0.1")).is_admin
    # Somebody else may have signed up with that address.
    assert (await client.get("/audit-log")).status_code == 401
    with pytest.raises(WrongCredentials):
        await log_in(user.email, PASSWORD, "127.0.0.1")
    assert await AuditModel.find(AuditModel.action == "admin.made").count() == 2
    for arguments, problem in (
        (["nobody"], "'nobody' is not an email address"),
        (["new@example.com"], "8 to 200 char"),
    ):
        done = await asyncio.to_thread(admin, *arguments)
        assert done.returncode == 2
        assert problem in done.stderr
        assert "Traceback" not in done.stderr
    assert await UserModel.count() == 2


async def test_the_audit_log_tells_who_did_what(client, signed_in, user):
    await user.set({UserModel.is_admin: True})
    wrong = {"email": "x@example.com", "password": "wrong"}
    with pytest.raises(WrongCredentials):
        await log_in(**wrong, client="192.0.2.7")
    await log_in(user.email, PASSWORD, "192.0.2.8")

    newest, before = (await client.get("/audit-log", params={"limit": 2})).json()
    assert (newest["action"], newest["actor"]) == ("login.succeeded", str(user.id))
    assert (before["action"], before["actor"]) == ("login.failed", None)
    assert before["details"] == {"email": "x@example.com", "client": "192.0.2.7"}
    older = (await client.get("/audit-log", params={"before": newest["id"]})).json()
    assert [entry["action"] for entry in older] == ["login.failed"]
    assert (await client.get("/audit-log", params={"since": newest["at"]})).json() == [newest]
    await audit_log("odd", thing=ObjectId(), when=timedelta(seconds=1))
    assert (await client.get("/audit-log", params={"action": "odd"})).status_code == 200
    only = (
        await client.get("/audit-log", params={"actor": str(user.id), "action": "login.failed"})
    ).json()
    assert only == []
    assert (await client.get("/audit-log", params={"limit": 1001})).status_code == 422
    client.cookies.clear()
    assert (await client.get("/audit-log")).status_code == 401


async def test_cookies_are_what_they_should_be(app, settings, user, monkeypatch):
    from fastapi import Response

    from core.web import sign_in

    for is_production in (False, True):
        monkeypatch.setattr(
            get_settings(), "environment", "production" if is_production else "development"
        )
        response = Response()
        await sign_in(response, user)
        cookie = response.headers["set-cookie"]
        assert all(
            flag in cookie for flag in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=1209600")
        )
        assert ("Secure" in cookie) is is_production
        assert "Domain" not in cookie
    assert await SessionModel.count() == 2
    assert await AuditModel.count() == 0


async def test_a_log_in_that_was_under_way_ends_with_the_old_password(user):
    _, token = await start_password_reset(user.email, "127.0.0.1")
    logged_in = await log_in(user.email, PASSWORD, "127.0.0.1")  # its session is not begun yet
    await reset_password(token, NEW)
    assert await find_user(await start_session(logged_in)) is None


async def test_one_address_in_two_spellings_is_one(db):
    spellings = ("J\u030c@example.com", "\u01f0@example.com")
    await register(spellings[0], PASSWORD, "J")
    for email in spellings:
        with pytest.raises(EmailTaken):
            await register(email, PASSWORD, "J")
        assert (await log_in(email, PASSWORD, "127.0.0.1")).id
    assert await UserModel.count() == 1


async def test_log_ins_at_the_same_moment_are_not_too_many(user):
    tries = [log_in(user.email, PASSWORD, "127.0.0.1") for _ in range(4)]
    assert {each.id for each in await asyncio.gather(*tries)} == {user.id}


@pytest.mark.parametrize(
    "body",
    [b'{"email": "\\ud800"}', b'{"email": "a@example.com", "password": ["\\ud800"]}', b"[[["],
)
async def test_a_wrong_form_is_not_sent_back(app, client, body):
    @app.post("/test-form")
    async def form(
        email: Annotated[EmailStr, Body()], password: Annotated[str, Body()]
    ) -> None: ...

    response = await client.post(
        "/test-form", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert "input" not in response.text
