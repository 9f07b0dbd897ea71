"""The alerts of a service. A process claims an alert in MongoDB, so only one calls the hooks."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from core.config import Settings
from core.models import AlertCheckModel, AlertModel
from core.tasks import upkeep
from core.tasks.alerts.conditions import NO_WORKER, Conditions
from core.tasks.failures import Hook, call_hook, name_hook

CHECK_SECONDS = 30.0
HOOK_SECONDS = 30.0
LEASE_SECONDS = 60
"""If the process that claimed an alert is killed, another process sends it after this time."""
RETRY_SECONDS = 20
END_SECONDS = 300
"""An alert ends if no process has found its condition for this time, so it does not flap."""
REPEAT_SECONDS = 3600
PAGES = {"dead_letters": "/failures", "schedule": "/schedules", NO_WORKER: "/workers"}


@dataclass(frozen=True, slots=True)
class Alert:
    """A message about something that is wrong.

    Attributes:
        id: The message's id. If a hook fails, it gets the message again with the same id.
        kind: `dead_letters`, `backlog`, `schedule` or `no_worker`.
        key: The subject, such as a schedule's id.
        title: One line for people.
        text: The details.
        url: The page of the console, or empty if `CONSOLE_ENABLED` is false.
        started_at: When the condition was first found.
        ended: Whether the alert has ended.
    """

    id: str
    kind: str
    key: str
    title: str
    text: str
    url: str
    started_at: datetime
    ended: bool


class Alerts:
    """The alerts of this service."""

    def __init__(self, settings: Settings, conditions: Conditions, hooks: Sequence[Hook]) -> None:
        self._settings = settings
        self._conditions = conditions
        self._hooks = {f"{name_hook(each)} {place}": each for place, each in enumerate(hooks)}

    async def list(self) -> list[AlertModel]:
        """Return the alerts that have not ended, the newest first."""
        return await AlertModel.find({"ended_at": None}).sort("-started_at").to_list()

    def find_url(self, kind: str) -> str:
        """Return the address of the console's page about a kind, or "" without the console."""
        if not self._settings.console_enabled:
            return ""
        return self._settings.link_to("console" + PAGES.get(kind, ""))

    async def keep_checking(self) -> None:
        """Check until cancelled. The first check waits, because the service may be starting."""
        await asyncio.sleep(2 * CHECK_SECONDS)
        await upkeep.repeat("alerts", self._check_in_turn, CHECK_SECONDS)

    async def _check_in_turn(self) -> None:
        # With the engine `local`, each process has its own backlog.
        if NO_WORKER not in self._conditions or await _take_turn():
            try:
                await self.check()
            except Exception:  # another process may reach the server
                await AlertCheckModel.delete_all()
                raise

    async def check(self) -> None:
        """Check the conditions. Call the hooks for new, repeated and ended alerts."""
        errors = []
        for kind, find in self._conditions.items():
            try:
                found = await find()
                for key, title, text in found:
                    await self._note(kind, key, title, text)
                await self._end(kind)
            except Exception as error:
                errors.append(error)
            else:
                if kind == NO_WORKER and found:
                    break  # this explains a backlog and late schedules
        done: list[str] = []  # a hook that always fails must not keep the check from ending
        while claimed := await self._claim(done):
            done.append(claimed["_id"])
            await self._tell(claimed)
        if errors:
            raise errors[0]

    async def _note(self, kind: str, key: str, title: str, text: str) -> None:
        is_open = {"$eq": [{"$type": "$ended_at"}, "null"]}
        first: dict[str, Any] = {"started_at": "$$NOW", "untold": []}
        first |= dict.fromkeys(("told_at", "told_text", "claimed_until"))
        fields = {"kind": kind, "key": key, "title": title, "text": text}
        change = {
            **{name: {"$literal": value} for name, value in fields.items()},
            **{name: {"$cond": [is_open, f"${name}", value]} for name, value in first.items()},
            "seen_at": "$$NOW",
            "ended_at": None,
        }
        with suppress(DuplicateKeyError):  # another process notes it at this moment
            await self._change({"_id": f"{kind}:{key}"}, change, upsert=True)

    async def _end(self, kind: str) -> None:
        was_seen = {"$lt": ["$seen_at", _from_now(-END_SECONDS)]}
        query = {"kind": kind, "ended_at": None, "$expr": was_seen}
        # A process that is still sending the start of the alert loses its claim, and notes nothing.
        await self._change(query, {"ended_at": "$$NOW", "untold": [], "claimed_until": None})

    async def _claim(self, done: Sequence[str]) -> dict[str, Any] | None:
        """Claim an alert for which hooks must be called now, and return it. Leave out `done`."""
        has_changed = {"$ne": ["$text", "$told_text"]}
        is_worth = {"$or": [has_changed, {"$eq": ["$kind", NO_WORKER]}]}
        lasts = {"$lt": ["$told_at", _from_now(-REPEAT_SECONDS)]}  # null is less than any time
        due = [
            {"untold": {"$ne": []}},
            {"ended_at": None, "$expr": {"$and": [lasts, is_worth]}},
            {"ended_at": {"$ne": None}, "$expr": {"$lt": ["$told_at", "$ended_at"]}},
        ]
        hooks = {"$literal": list(self._hooks)}
        claim = {
            "claimed_until": _from_now(LEASE_SECONDS),
            "untold": {"$cond": [{"$eq": ["$untold", []]}, hooks, "$untold"]},
        }
        claimed: dict[str, Any] | None = await self._collection.find_one_and_update(
            {"_id": {"$nin": done}, "$or": due, "$expr": {"$lte": ["$claimed_until", "$$NOW"]}},
            [{"$set": claim}],
            return_document=ReturnDocument.AFTER,
        )
        return claimed

    async def _tell(self, claimed: dict[str, Any]) -> None:
        """Call the hooks, and note which ones failed. They are called again after a check."""
        fields = {name: claimed[name] for name in ("kind", "key", "title", "text", "started_at")}
        url = self.find_url(claimed["kind"])
        ended = claimed["ended_at"] is not None
        since = claimed["ended_at"] or claimed["told_at"] or claimed["started_at"]
        message_id = uuid5(NAMESPACE_URL, f"{claimed['_id']} {since}").hex
        alert = Alert(id=message_id, url=url, ended=ended, **fields)
        names = [name for name in claimed["untold"] if name in self._hooks]
        calls = (call_hook(self._hooks[name], alert, HOOK_SECONDS) for name in names)
        results = zip(names, await asyncio.gather(*calls), strict=True)
        untold = [name for name, is_told in results if not is_told]
        change: dict[str, Any] = {"untold": untold, "claimed_until": _from_now(RETRY_SECONDS)}
        if not untold:
            change |= {"told_at": "$$NOW", "told_text": {"$literal": alert.text}}
        await self._change({name: claimed[name] for name in ("_id", "claimed_until")}, change)

    async def _change(self, query: dict[str, Any], change: dict[str, Any], **options: bool) -> None:
        await self._collection.update_many(query, [{"$set": change}], **options)

    @property
    def _collection(self) -> Any:
        return AlertModel.get_pymongo_collection()


async def _take_turn() -> bool:
    """Return whether this process makes the next check. It does if the last one is old enough."""
    age = {"$abs": {"$subtract": ["$$NOW", "$checked_at"]}}  # the clock may have gone back
    pause = int(CHECK_SECONDS * 900)  # less than a pause, so a process that is early can check
    is_due = {"$gte": [{"$ifNull": [age, pause]}, pause]}
    change = {"checked_at": {"$cond": [is_due, "$$NOW", "$checked_at"]}}
    checks = AlertCheckModel.get_pymongo_collection()
    try:
        result = await checks.update_one({"_id": "alerts"}, [{"$set": change}], upsert=True)
    except DuplicateKeyError:  # another process takes it at this moment
        return False
    return bool(result.modified_count or result.upserted_id)


def _from_now(seconds: float) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(seconds * 1000)]}  # the clock of MongoDB's server
