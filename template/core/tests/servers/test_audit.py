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
    make_admin,
    register,
    reset_password,
    start_password_reset,
)
from core.services.audit import audit_log
from core.testing import PASSWORD
from core.tests.servers.command_line import Done
from core.web import CurrentUser

NEW = "quite another password"


async def test_an_administrator_is_made_on_the_command_line(command, client, signed_in, user):
    assert (await client.get("/audit-log")).status_code == 403
    done = await command("admin", user.email.upper(), typed=f"{NEW}\n")
    expected = f"{user.email} is an administrator now. The password and the sessions stay.\n"
    assert (done.output, done.errors) == (expected, "")
    assert (await client.get("/audit-log")).status_code == 200
    assert (await log_in(user.email, PASSWORD, "127.0.0.1")).is_admin

    done = await command("admin", "root@example.com", typed=f"{NEW}\n")
    expected = "created the account root@example.com\nroot@example.com is an administrator now.\n"
    notice = "root@example.com has no account. This command creates one.\n"
    assert (done.output, done.errors) == (expected, notice)
    assert (await log_in("root@example.com", NEW, "127.0.0.1")).is_admin
    made = await AuditModel.find(AuditModel.action == "admin.made").to_list()
    assert [entry.actor for entry in made] == [None, None]
    assert made[0].subject == str(user.id)
    leaked = await command("admin", "new@example.com", typed="Password123\n")
    assert (leaked.status, "leaked" in leaked.errors) == (2, True)
    assert await UserModel.count() == 2


async def test_an_account_without_a_password_gets_one_with_its_role(command, user):
    await user.set({UserModel.password_hash: None})
    done = await command("admin", user.email, "--role", "viewer", typed=f"{NEW}\n")
    assert done == Done(0, f"{user.email} is a viewer now.\n", "")
    assert (await log_in(user.email, NEW, "127.0.0.1")).is_viewer
    with pytest.raises(ValueError, match="has no account"):
        await make_admin("lost@example.com")


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
