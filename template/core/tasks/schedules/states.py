"""The states of schedules in MongoDB: when each one fires next, and which code it belongs to.

During a deploy, workers of two versions run side by side. A schedule belongs to one definition at a
time, and only workers that have this definition fire it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from apscheduler.triggers.interval import IntervalTrigger
from pymongo import UpdateOne

from core.logging import get_logger
from core.models import ScheduleModel
from core.tasks.schedules.declarations import Schedule
from core.tasks.schedules.triggers import next_time

logger = get_logger(__name__)

BATCH = 500
"""The number of schedules that are registered or fired together."""
CLAIM_LENGTH = timedelta(seconds=60)
"""A definition that no worker has claimed for this time belongs to no running worker."""


def first_run(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when a new schedule fires first, or None if it never fires.

    Args:
        schedule: The schedule.
        now: The time.
    """
    trigger = schedule.trigger
    # An interval without a start begins now. APScheduler's trigger has this process's clock.
    begins_now = isinstance(trigger, IntervalTrigger) and schedule.options.start_date is None
    found = next_time(trigger, now if begins_now else None, now)
    grace = timedelta(seconds=schedule.options.misfire_grace)
    # The date of a trigger that fires once may have passed.
    if found and now - found > grace:
        return None
    return found


def first_state(schedule: Schedule, now: datetime) -> dict[str, Any]:
    """Return the state of a new schedule, without its id.

    Args:
        schedule: The schedule.
        now: The time.
    """
    enabled = schedule.options.enabled
    return {
        "definition": schedule.definition,
        "claimed_at": now,
        "trigger": schedule.timing,
        "enabled": enabled,
        "declared_enabled": enabled,
        "next_run": first_run(schedule, now),
    }


class ScheduleStates:
    """The stored states of the schedules that the code declares.

    Args:
        declared: The schedules by id.
    """

    def __init__(self, declared: Mapping[str, Schedule]) -> None:
        self._declared = declared
        self._own = {schedule.definition for schedule in declared.values()}
        self._has_registered = False

    async def register(self, now: datetime) -> None:
        """Claim the schedules for the definitions of this process.

        The first call takes over every schedule that has another definition, because this process
        started last. A later call takes over a schedule only if no running worker claims it. An
        old worker that restarts during a deploy leaves such schedules behind.

        Args:
            now: The time.
        """
        claimed = {"$set": {"claimed_at": now}}
        await self._collection.update_many({"definition": {"$in": list(self._own)}}, claimed)
        # Plain documents, because ten thousand models would block the event loop.
        stored = await self._collection.find({"_id": {"$in": list(self._declared)}}).to_list()
        states = {state["_id"]: state for state in stored}
        schedules = list(self._declared.values())
        for start in range(0, len(schedules), BATCH):
            writes = [
                self._register(schedule, states.get(schedule.id), now)
                for schedule in schedules[start : start + BATCH]
            ]
            await self.write([write for write in writes if write])
        self._has_registered = True

    async def now(self) -> datetime:
        """Return the time of MongoDB's server. A worker's own clock may be wrong."""
        hello = await self._collection.database.command("hello")
        return cast(datetime, hello["localTime"]).replace(tzinfo=UTC)

    async def read(self) -> dict[str, ScheduleModel]:
        """Return the stored states by id."""
        query = {"_id": {"$in": list(self._declared)}}
        states = await ScheduleModel.find(query).to_list()
        return {state.id: state for state in states}

    async def find_due(self, time: datetime) -> list[dict[str, Any]]:
        """Return `_id`, `definition` and `next_run` of this process's schedules due at a time.

        Args:
            time: The time.
        """
        due = {"enabled": True, "next_run": {"$lte": time}}
        fields = {"definition": 1, "next_run": 1}
        states = await self._collection.find(due, fields).to_list()
        return [state for state in states if state.get("definition") in self._own]

    async def add(self, schedule: Schedule, now: datetime) -> None:
        """Store the state of a schedule that has none.

        Args:
            schedule: The schedule.
            now: The time.
        """
        await self.write([_insert(schedule.id, first_state(schedule, now))])

    async def write(self, writes: Sequence[UpdateOne]) -> None:
        """Write changes of several states with one command.

        Args:
            writes: The changes.
        """
        if writes:
            await self._collection.bulk_write(writes, ordered=False)

    async def change(self, query: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        """Change a stored state, and return whether one matched.

        Args:
            query: The query that the state must match.
            change: The new values of its fields.
        """
        result = await self._collection.update_one(query, {"$set": change})
        return bool(result.matched_count)

    def _register(
        self,
        schedule: Schedule,
        state: Mapping[str, Any] | None,
        now: datetime,
    ) -> UpdateOne | None:
        if state is None:
            change = first_state(schedule, now)
            write = _insert(schedule.id, change)
        elif state.get("definition") != schedule.definition and self._may_replace(state, now):
            change = _take_over(schedule, state, now)
            same = {"_id": schedule.id, "definition": state.get("definition")}
            write = UpdateOne(same, {"$set": change})
        else:
            return None
        if change.get("next_run", now) is None:
            logger.warning(
                "schedule never fires",
                schedule=schedule.id,
                trigger=schedule.description,
            )
        return write

    def _may_replace(self, state: Mapping[str, Any], now: datetime) -> bool:
        claimed_at = state.get("claimed_at")
        if not self._has_registered or claimed_at is None:
            return True
        return bool(now - claimed_at > CLAIM_LENGTH)

    @property
    def _collection(self) -> Any:
        return ScheduleModel.get_pymongo_collection()


def _insert(schedule_id: str, state: Mapping[str, Any]) -> UpdateOne:
    return UpdateOne({"_id": schedule_id}, {"$setOnInsert": state}, upsert=True)


def _take_over(schedule: Schedule, state: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the change that gives a state to the definition of this process."""
    enabled = schedule.options.enabled
    change: dict[str, Any] = {
        "definition": schedule.definition,
        "declared_enabled": enabled,
        "claimed_at": now,
    }
    is_turned = state.get("declared_enabled") not in (None, enabled)
    if is_turned:
        change["enabled"] = enabled
    # Another change, such as one of the arguments, does not move the next run.
    if is_turned or state["trigger"] != schedule.timing:
        change["trigger"] = schedule.timing
        change["next_run"] = first_run(schedule, now)
    return change
