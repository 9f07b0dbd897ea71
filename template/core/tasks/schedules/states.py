"""The states of schedules in MongoDB: when each one fires next, and which code it belongs to.

During a deploy, workers of two versions run side by side. A schedule belongs to one definition at a
time, and only workers that have this definition fire it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from core.logging import get_logger
from core.models import ScheduleModel
from core.tasks.schedules.declarations import Schedule
from core.tasks.schedules.triggers import next_time

logger = get_logger(__name__)

CLAIM_LENGTH = timedelta(seconds=60)
"""A definition that no worker has claimed for this time belongs to no running worker."""


def first_run(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when a new schedule fires first, or None if it never fires.

    Args:
        schedule: The schedule.
        now: The time.
    """
    found = next_time(schedule.trigger, None, now)
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
        self._own = [schedule.definition for schedule in declared.values()]
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
        await self._collection.update_many({"definition": {"$in": self._own}}, claimed)
        states = await self.read()
        for schedule in self._declared.values():
            state = states.get(schedule.id)
            if state is None:
                await self.add(schedule, now)
            elif state.definition != schedule.definition and self._may_replace(state, now):
                await self._replace(schedule, state, now)
        self._has_registered = True

    async def read(self) -> dict[str, ScheduleModel]:
        """Return the stored states by id."""
        query = {"_id": {"$in": list(self._declared)}}
        states = await ScheduleModel.find(query).to_list()
        return {state.id: state for state in states}

    async def find_due(self, now: datetime) -> list[ScheduleModel]:
        """Return the states of the schedules that are due, and that belong to this process.

        Args:
            now: The time.
        """
        due = {
            "definition": {"$in": self._own},
            "enabled": True,
            "next_run": {"$lte": now},
        }
        return await ScheduleModel.find(due).to_list()

    async def add(self, schedule: Schedule, now: datetime) -> None:
        """Store the state of a schedule that has none.

        Args:
            schedule: The schedule.
            now: The time.
        """
        state = first_state(schedule, now)
        result = await self._collection.update_one(
            {"_id": schedule.id},
            {"$setOnInsert": state},
            upsert=True,
        )
        if result.upserted_id:
            _warn_if_never(schedule, state["next_run"])

    async def change(self, query: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        """Change a stored state, and return whether one matched.

        Args:
            query: The query that the state must match.
            change: The new values of its fields.
        """
        result = await self._collection.update_one(query, {"$set": change})
        return bool(result.matched_count)

    async def _replace(self, schedule: Schedule, state: ScheduleModel, now: datetime) -> None:
        enabled = schedule.options.enabled
        change: dict[str, Any] = {
            "definition": schedule.definition,
            "declared_enabled": enabled,
            "claimed_at": now,
        }
        is_turned = state.declared_enabled not in (None, enabled)
        if is_turned:
            change["enabled"] = enabled
        # Another change, such as one of the arguments, does not move the next run.
        if is_turned or state.trigger != schedule.timing:
            change["trigger"] = schedule.timing
            change["next_run"] = first_run(schedule, now)
        same = {"_id": schedule.id, "definition": state.definition}
        is_changed = await self.change(same, change)
        if is_changed and "next_run" in change:
            _warn_if_never(schedule, change["next_run"])

    def _may_replace(self, state: ScheduleModel, now: datetime) -> bool:
        if not self._has_registered or state.claimed_at is None:
            return True
        return now - state.claimed_at > CLAIM_LENGTH

    @property
    def _collection(self) -> Any:
        return ScheduleModel.get_pymongo_collection()


def _warn_if_never(schedule: Schedule, next_run: datetime | None) -> None:
    if next_run is None:
        logger.warning(
            "schedule never fires",
            schedule=schedule.id,
            trigger=schedule.description,
        )
