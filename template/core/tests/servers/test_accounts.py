"""Accounts and sessions, and attempts to get around their rules."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import Response
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from core.config import get_settings
from core.models import AuditModel, EmailTokenModel, SessionModel, UserModel
from core.services.accounts import (
    EmailTaken,
    InvalidToken,
    WrongCredentials,
    confirm_sign_up,
    create_email_token,
    log_in,
    make_admin,
    passwords,
    register,
    reset_password,
    start_password_reset,
    start_sign_up,
)
from core.services.limits import Limits, TooManyRequests
from core.services.sessions import device_purpose, end_session, find_user, start_session
from core.services.signatures import sign
from core.services.tokens import hash_token, new_token
from core.testing import PASSWORD
from core.web import sign_in

NEW = "quite another password"


def make_device_cookie(user: UserModel) -> str:
    return sign(new_token(), device_purpose(user))


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
    _, sign_up = await start_sign_up("bob@example.com", NEW, "Bob")
    stored = [await db[name].find().to_list() for name in await db.list_collection_names()]
    for secret in (session, token, sign_up, PASSWORD, NEW):
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
    assert await SessionModel.count() == 0
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
    assert await EmailTokenModel.count() == 2
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
        device = response.headers.getlist("set-cookie")[1]
        assert device.startswith("__Host-device=" if is_production else "device=")
        assert all(flag in device for flag in flags[:3])
        assert ("Secure" in device) is is_production
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
    settings = get_settings()
    monkeypatch.setattr(settings, "session_idle_timeout", 1000)
    token = await start_session(user)

    async def use(seconds: float) -> float:
        """Use the session this long before its end. Return how many seconds it then has left."""
        await SessionModel.find_all().set({SessionModel.expires_at: after(seconds)})
        assert await find_user(token)
        (session,) = await SessionModel.find_all().to_list()
        return (session.expires_at - after(0)).total_seconds()

    def after(seconds: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    (session,) = await SessionModel.find_all().to_list()
    assert after(900) < session.expires_at <= after(1000)
    assert 900 < await use(500) <= 1000
    assert 900 < await use(950) <= 950  # not written again
    monkeypatch.setattr(settings, "session_lifetime", 600)
    assert 500 < await use(300) <= 600
    assert 600 < await use(700) <= 700  # as of an earlier version: it ends when it says
    await SessionModel.find_all().set({SessionModel.expires_at: after(0)})
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


async def test_a_sign_up_is_no_account_until_its_password_confirms_it(db):
    user_id, token = await start_sign_up("Bob@Example.com", PASSWORD, "Bob")
    assert await UserModel.count() == 0
    with pytest.raises(WrongCredentials):
        await log_in("bob@example.com", PASSWORD, "127.0.0.1")
    with pytest.raises(WrongCredentials):
        await confirm_sign_up(token, NEW, "127.0.0.1")
    with pytest.raises(InvalidToken):
        await reset_password(token, NEW)
    attempts = [confirm_sign_up(token, PASSWORD, "127.0.0.1") for _ in range(3)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    first, second, third = names_of_types(results)
    assert third == "UserModel"
    assert {first, second} <= {"EmailTaken", "InvalidToken"}
    user = await log_in("bob@example.com", PASSWORD, "127.0.0.1")
    assert (str(user.id), user.display_name) == (user_id, "Bob")
    entries = await AuditModel.find(AuditModel.action == "account.created").to_list()
    assert [(entry.actor, entry.subject) for entry in entries] == [(user_id, user_id)]


async def test_of_many_sign_ups_with_one_address_one_becomes_an_account(db):
    sign_ups = [await start_sign_up("bob@example.com", PASSWORD, "Bob") for _ in range(3)]
    attempts = [confirm_sign_up(token, PASSWORD, "127.0.0.1") for _, token in sign_ups]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    first, second, third = names_of_types(results)
    assert third == "UserModel"
    assert {first, second} <= {"EmailTaken", "InvalidToken"}
    assert await EmailTokenModel.count() == 0


async def test_a_sign_up_for_a_known_address_changes_nothing(user):
    _, token = await start_sign_up(user.email, NEW, "Eve")
    with pytest.raises(EmailTaken):
        await confirm_sign_up(token, NEW, "127.0.0.1")
    assert (await log_in(user.email, PASSWORD, "127.0.0.1")).display_name == "Ada Lovelace"
    assert await UserModel.count() == 1


async def test_a_sign_up_does_the_same_work_for_every_address(user, db, monkeypatch):
    hashed: list[str] = []
    monkeypatch.setattr("core.services.accounts.registration.hash_password", hashed.append)
    for email in (user.email, "nobody@example.com"):
        await start_sign_up(email, PASSWORD, "Bob")
    assert hashed == [PASSWORD] * 2
    first, second = await db["email_tokens"].find().to_list()
    assert first.keys() == second.keys()


async def test_a_reset_of_a_sign_up_makes_an_account_with_nothing_of_it(db):
    eves_id, eves_token = await start_sign_up("bob@example.com", PASSWORD, "Eve")
    _, token = await start_password_reset("bob@example.com", "127.0.0.1")
    user = await reset_password(token, NEW)
    assert str(user.id) != eves_id
    assert user.display_name == "bob"
    assert (await log_in("bob@example.com", NEW, "127.0.0.1")).id == user.id
    with pytest.raises(InvalidToken):
        await confirm_sign_up(eves_token, PASSWORD, "127.0.0.1")
    with pytest.raises(WrongCredentials):
        await log_in("bob@example.com", PASSWORD, "127.0.0.1")
    created = await AuditModel.find_one(AuditModel.action == "account.created")
    assert created
    assert created.actor == created.subject == str(user.id)


async def test_a_reset_of_a_deleted_account_does_not_bring_it_back(user):
    await start_sign_up(user.email, NEW, "Eve")
    _, token = await start_password_reset(user.email, "127.0.0.1")
    await user.delete()
    with pytest.raises(InvalidToken):
        await reset_password(token, NEW)
    assert await UserModel.count() == 0


async def test_a_reset_that_began_before_a_confirmation_ends_with_it(db):
    _, sign_up = await start_sign_up("bob@example.com", PASSWORD, "Bob")
    _, reset = await start_password_reset("bob@example.com", "127.0.0.1")
    await confirm_sign_up(sign_up, PASSWORD, "127.0.0.1")
    with pytest.raises(InvalidToken):
        await reset_password(reset, NEW)


async def test_an_administrator_is_made_beside_a_sign_up(db):
    _, token = await start_sign_up("bob@example.com", PASSWORD, "Eve")
    await make_admin("bob@example.com", NEW)
    with pytest.raises(InvalidToken):
        await confirm_sign_up(token, PASSWORD, "127.0.0.1")


async def test_an_expired_sign_up_is_invalid(db):
    fields = {"purpose": "sign_up", "email": "bob@example.com", "display_name": "Bob"}
    fields["user_id"] = "0" * 24
    password_hash = passwords.hash_password(PASSWORD)
    lifetime = timedelta(seconds=-1)
    token = await create_email_token(lifetime, password_hash=password_hash, **fields)
    with pytest.raises(InvalidToken):
        await confirm_sign_up(token, PASSWORD, "127.0.0.1")


async def test_a_known_device_has_limits_of_its_own(user, monkeypatch):
    limits = Limits("4 per hour", "3 per hour", "3 per hour")
    monkeypatch.setattr("core.services.accounts.credentials.LOG_IN", limits)
    monkeypatch.setattr("core.services.accounts.resets.RESET", limits)
    eve = await register("eve@example.com", PASSWORD, "Eve")
    for client in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.9"):
        with pytest.raises(WrongCredentials):
            await log_in(user.email, NEW, client)
        await start_password_reset(user.email, client)
    known = make_device_cookie(user)
    for client in ("192.0.2.1", "192.0.2.2"):
        # The cookie of another user, an altered one and none: the address is locked.
        for device in (make_device_cookie(eve), f"{known[:-2]}xx", "", None):
            with pytest.raises(TooManyRequests):
                await log_in(user.email, PASSWORD, client, device)
            with pytest.raises(TooManyRequests):
                await start_password_reset(user.email, client, device)
        await log_in(user.email, PASSWORD, client, known)
    await start_password_reset(user.email, "192.0.2.1", known)
    with pytest.raises(WrongCredentials):
        await log_in(user.email, NEW, "192.0.2.3", known)
    with pytest.raises(TooManyRequests):
        await log_in(user.email, PASSWORD, "192.0.2.3", known)
    await log_in(user.email, PASSWORD, "192.0.2.3", make_device_cookie(user))


async def test_all_devices_of_a_user_share_a_limit(user, monkeypatch):
    limits = Limits("4 per hour", "100 per hour", "2 per hour")
    monkeypatch.setattr("core.services.accounts.credentials.LOG_IN", limits)
    devices = [make_device_cookie(user) for _ in range(3)]
    for device in devices[:2] * 2:
        with pytest.raises(WrongCredentials):
            await log_in(user.email, NEW, "192.0.2.1", device)
    with pytest.raises(TooManyRequests):
        await log_in(user.email, PASSWORD, "192.0.2.1", devices[2])
    await log_in(user.email, PASSWORD, "192.0.2.1")


async def test_a_new_password_forgets_all_devices(user, monkeypatch):
    limits = Limits("1 per hour", "1 per hour", "1 per hour")
    monkeypatch.setattr("core.services.accounts.credentials.LOG_IN", limits)
    known = make_device_cookie(user)
    _, token = await start_password_reset(user.email, "192.0.2.1")
    changed = await reset_password(token, NEW)
    with pytest.raises(WrongCredentials):
        await log_in(user.email, PASSWORD, "192.0.2.1")
    with pytest.raises(TooManyRequests):
        await log_in(user.email, NEW, "192.0.2.1", known)
    await log_in(user.email, NEW, "192.0.2.1", make_device_cookie(changed))


async def test_guessing_the_password_of_a_sign_up_is_limited(db, monkeypatch):
    limits = Limits("3 per hour", "3 per hour", "3 per hour")
    monkeypatch.setattr("core.services.accounts.registration.LOG_IN", limits)
    _, token = await start_sign_up("bob@example.com", PASSWORD, "Bob")
    for _ in range(3):
        with pytest.raises(WrongCredentials):
            await confirm_sign_up(token, NEW, "192.0.2.1")
    with pytest.raises(TooManyRequests):
        await confirm_sign_up(token, PASSWORD, "192.0.2.1")
