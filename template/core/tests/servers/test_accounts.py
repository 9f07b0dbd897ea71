"""Accounts and sessions, and attempts to get around their rules."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from core.config import get_settings
from core.models import AuditModel, ResetTokenModel, SessionModel, UserModel
from core.services.accounts import (
    EmailTaken,
    InvalidToken,
    WrongCredentials,
    log_in,
    passwords,
    register,
    reset_password,
    start_password_reset,
)
from core.services.sessions import end_session, find_user, start_session
from core.services.tokens import hash_token
from core.testing import PASSWORD
from core.web import sign_in

NEW = "quite another password"


def names_of_types(values: Iterable[object]) -> list[str]:
    return sorted(type(value).__name__ for value in values)


async def test_one_address_has_one_account(db):
    user = await register("Bob@Example.com", PASSWORD, "Bob")
    with pytest.raises(EmailTaken) as taken:
        await register("bob@example.COM", PASSWORD, "Another Bob")
    assert taken.value.user.id == user.id
    attempts = [register("eve@example.com", PASSWORD, "Eve") for _ in range(3)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert names_of_types(results) == ["EmailTaken", "EmailTaken", "UserModel"]


async def test_the_database_holds_no_secret_in_plain_text(db, user):
    session = await start_session(user)
    _, token = await start_password_reset(user.email, "127.0.0.1")
    stored = [await db[name].find().to_list() for name in await db.list_collection_names()]
    for secret in (session, token, PASSWORD):
        assert secret not in str(stored)


async def test_who_can_write_to_the_database_can_act_as_any_user(user):
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    token_hash = hash_token("made up")
    await SessionModel(token_hash=token_hash, user_id=user.id, expires_at=expires_at).insert()
    found = await find_user("made up")
    assert found
    assert found.id == user.id


async def test_a_token_works_once_even_for_simultaneous_requests(user):
    _, token = await start_password_reset(user.email, "127.0.0.1")
    session = await start_session(user)
    attempts = [reset_password(token, f"{NEW} {number}") for number in range(3)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert names_of_types(results) == ["InvalidToken", "InvalidToken", "UserModel"]
    assert await find_user(session) is None
    winner = [isinstance(result, UserModel) for result in results].index(True)
    assert (await log_in(user.email, f"{NEW} {winner}", "127.0.0.1")).id == user.id


async def test_a_reset_ends_all_earlier_links(user):
    tokens = [(await start_password_reset(user.email, "127.0.0.1"))[1] for _ in range(2)]
    await reset_password(tokens[0], NEW)
    with pytest.raises(InvalidToken):
        await reset_password(tokens[1], PASSWORD)


async def test_an_expired_token_is_invalid(user, monkeypatch):
    monkeypatch.setattr("core.services.accounts.resets.RESET_LIFETIME", timedelta(seconds=-1))
    _, token = await start_password_reset(user.email, "127.0.0.1")
    with pytest.raises(InvalidToken):
        await reset_password(token, NEW)


async def test_a_reset_treats_unknown_addresses_like_known_ones(user):
    answers = [
        await start_password_reset(email, "127.0.0.1")
        for email in (user.email, "nobody@example.com")
    ]
    assert [(len(user_id), len(token)) for user_id, token in answers] == [(24, 43)] * 2
    assert await ResetTokenModel.count() == 2
    with pytest.raises(InvalidToken):
        await reset_password(answers[1][1], NEW)


async def test_a_log_in_hashes_the_password_even_if_the_address_is_unknown(user, monkeypatch):
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


async def test_an_account_without_a_password_cannot_log_in(user):
    await user.set({UserModel.password_hash: None})
    for password in ("", PASSWORD):
        with pytest.raises(WrongCredentials):
            await log_in(user.email, password, "127.0.0.1")


async def test_a_log_in_renews_a_weak_hash(user):
    weak = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=1024)]).hash(PASSWORD)
    await user.set({UserModel.password_hash: weak})
    await log_in(user.email, PASSWORD, "127.0.0.1")
    renewed = await UserModel.get(user.id)
    assert renewed
    assert "m=65536" in str(renewed.password_hash)
    assert (await log_in(user.email, PASSWORD, "127.0.0.1")).id == user.id


async def test_a_session_cookie_is_safe(app, settings, user, monkeypatch):
    flags = ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=1209600")
    for environment in ("development", "production"):
        monkeypatch.setattr(get_settings(), "environment", environment)
        response = Response()
        await sign_in(response, user)
        cookie = response.headers["set-cookie"]
        assert all(flag in cookie for flag in flags)
        is_production = environment == "production"
        assert ("Secure" in cookie) is is_production
        assert cookie.startswith("__Host-session=" if is_production else "session=")
        assert "Domain" not in cookie
    assert await SessionModel.count() == 2
    assert await AuditModel.count() == 0


async def test_a_reset_ends_a_log_in_that_is_under_way(user):
    _, token = await start_password_reset(user.email, "127.0.0.1")
    logged_in = await log_in(user.email, PASSWORD, "127.0.0.1")
    await reset_password(token, NEW)
    assert await find_user(await start_session(logged_in)) is None


async def test_two_spellings_of_an_address_have_one_account(db):
    spellings = ("J\u030c@example.com", "\u01f0@example.com")
    await register(spellings[0], PASSWORD, "J")
    for email in spellings:
        with pytest.raises(EmailTaken):
            await register(email, PASSWORD, "J")
        assert (await log_in(email, PASSWORD, "127.0.0.1")).id
    assert await UserModel.count() == 1


async def test_simultaneous_log_ins_all_succeed(user):
    attempts = [log_in(user.email, PASSWORD, "127.0.0.1") for _ in range(4)]
    assert {found.id for found in await asyncio.gather(*attempts)} == {user.id}


async def test_a_session_ends_if_it_is_not_used(user, monkeypatch):
    monkeypatch.setattr(get_settings(), "session_idle_timeout", 1000)
    token = await start_session(user)

    async def shift(**fields: float) -> SessionModel:
        """Set times of the session to seconds from now, and use it."""
        now = datetime.now(UTC)
        times = {name: now + timedelta(seconds=seconds) for name, seconds in fields.items()}
        await SessionModel.find_all().set(times)
        assert await find_user(token)
        (session,) = await SessionModel.find_all().to_list()
        return session

    def seconds_left(session: SessionModel) -> float:
        return (session.expires_at - datetime.now(UTC)).total_seconds()

    (session,) = await SessionModel.find_all().to_list()
    assert 900 < seconds_left(session) <= 1000
    assert 900 < seconds_left(await shift(expires_at=500)) <= 1000
    assert 900 < seconds_left(await shift(expires_at=950)) <= 950  # not written again
    assert 500 < seconds_left(await shift(expires_at=300, ends_at=600)) <= 600
    # A session of an earlier version ends when it says.
    await SessionModel.find_all().set({SessionModel.ends_at: None})
    assert 200 < seconds_left(await shift(expires_at=300)) <= 300
    await SessionModel.find_all().set({SessionModel.expires_at: datetime.now(UTC)})
    assert await find_user(token) is None


async def test_a_session_that_ends_during_a_request_does_not_come_back(user, monkeypatch):
    token = await start_session(user)
    soon = datetime.now(UTC) + timedelta(seconds=60)
    await SessionModel.find_all().set({SessionModel.expires_at: soon})
    get = UserModel.get

    async def end_and_get(user_id: object) -> UserModel | None:
        await end_session(token)
        return await get(user_id)

    monkeypatch.setattr(UserModel, "get", end_and_get)
    await find_user(token)
    assert await SessionModel.count() == 0
