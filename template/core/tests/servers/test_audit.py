"""Administrators, and the audit log that only they may read."""

from datetime import datetime, timedelta

import pytest
from bson import ObjectId
from fastapi import BackgroundTasks

from core.context import TaskContext
from core.models import AuditModel, UserModel
from core.services.accounts import (
    WrongCredentials,
    log_in,
    register,
    reset_password,
    start_password_reset,
)
from core.services.audit import audit_log
from core.testing import PASSWORD
from core.web import CurrentUser

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
    made = await AuditModel.find(AuditModel.action == "admin.made").to_list()
    assert [entry.actor for entry in made] == [None, None]
    assert made[0].subject == str(user.id)
    leaked = await command("admin", user.email, typed="Password123\n")
    assert (leaked.status, "leaked" in leaked.errors) == (2, True)
    assert await UserModel.count() == 2


@pytest.mark.parametrize(
    ("email", "problem"),
    [("nobody", "'nobody' is not an email address"), ("new@example.com", "at least 8 characters")],
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
    assert newest["action"] == "login.succeeded"
    assert newest["actor"] == newest["subject"] == str(user.id)
    assert (before["action"], before["actor"], before["subject"]) == ("login.failed", None, None)
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


async def test_user_id_names_the_subject_and_not_the_actor(app, client, signed_in, user):
    """The snippet of FastAPI's background tasks: an administrator deletes a user."""

    @app.delete("/users/{user_id}")
    async def delete_user(
        user_id: str,
        admin: CurrentUser,
        background_tasks: BackgroundTasks,
    ) -> None:
        background_tasks.add_task(
            audit_log,
            action="user_deleted",
            user_id=user_id,
            timestamp=datetime.now(),
        )

    await user.set({UserModel.is_admin: True})
    assert (await client.delete("/users/7")).status_code == 200
    TaskContext.set_actor(None)  # the request ran in this context
    await audit_log("user_deleted", user_id=8)

    async def subjects(**filters: str) -> list[tuple[str | None, str | None]]:
        entries = (await client.get("/audit-log", params=filters)).json()
        return [(entry["actor"], entry["subject"]) for entry in entries]

    by_admin = (str(user.id), "7")
    by_nobody = (None, "8")
    assert await subjects(action="user_deleted") == [by_nobody, by_admin]
    assert await subjects(actor=str(user.id)) == [by_admin]
    assert await subjects(subject="7") == [by_admin]
    assert await subjects(subject=str(user.id)) == []


async def test_an_account_is_the_subject_of_its_entries(db, user):
    """Only a proof, such as a password or an emailed link, makes its user the actor."""
    with pytest.raises(WrongCredentials):
        await log_in(user.email, "wrong", "192.0.2.7")
    grace = await register("grace@example.com", PASSWORD, "Grace")
    _, token = await start_password_reset(user.email, "192.0.2.7")
    await reset_password(token, NEW)

    entries = await AuditModel.find_all().sort("_id").to_list()
    assert [(entry.action, entry.actor, entry.subject) for entry in entries] == [
        ("login.failed", None, str(user.id)),
        ("account.created", None, str(grace.id)),
        ("password.reset_requested", None, str(user.id)),
        ("password.changed", str(user.id), str(user.id)),
    ]
