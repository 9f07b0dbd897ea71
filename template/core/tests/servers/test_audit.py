"""Administrators, and the audit log that only they may read."""

from datetime import timedelta

import pytest
from bson import ObjectId

from core.models import AuditModel, UserModel
from core.services.accounts import WrongCredentials, log_in
from core.services.audit import audit_log
from core.testing import PASSWORD

NEW = "quite another password"


async def test_an_administrator_is_made_on_the_command_line(command, client, signed_in, user):
    assert (await client.get("/audit-log")).status_code == 403
    for email in (user.email.upper(), "root@example.com"):
        done = await command("admin", email, typed=f"{NEW}\n")
        assert done.output.startswith(f"{email.lower()} is an administrator")
        assert (await log_in(email, NEW, "127.0.0.1")).is_admin
    # The session and the password of before end: somebody else may have signed up.
    assert (await client.get("/audit-log")).status_code == 401
    with pytest.raises(WrongCredentials):
        await log_in(user.email, PASSWORD, "127.0.0.1")
    assert await AuditModel.find(AuditModel.action == "admin.made").count() == 2
    assert await UserModel.count() == 2


@pytest.mark.parametrize(
    ("email", "problem"),
    [("nobody", "'nobody' is not an email address"), ("new@example.com", "8 to 200 char")],
)
async def test_an_invalid_administrator_is_refused(command, user, email, problem):
    done = await command("admin", email)
    assert done.status == 2
    assert problem in done.errors
    assert "Traceback" not in done.errors
    assert await UserModel.count() == 1


async def test_the_audit_log_records_actions_and_actors(client, signed_in, user):
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
    both = {"actor": str(user.id), "action": "login.failed"}
    assert (await client.get("/audit-log", params=both)).json() == []
    assert (await client.get("/audit-log", params={"limit": 1001})).status_code == 422
    client.cookies.clear()
    assert (await client.get("/audit-log")).status_code == 401
