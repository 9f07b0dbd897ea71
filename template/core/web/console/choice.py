"""The choice of a person: filters, selected rows, or all that match the filters."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, model_validator

from core.models import DeadLetterModel, DeadLetterState
from core.tasks import DeadLetterFilters, JobStatus, JobSummary, ScheduleView
from core.web.audit import Time
from core.web.console.page import Console

BULK = 2_000
"""The largest number of things that one action changes."""
PAGES = 4
"""The largest number of pages that are read from the queue to find the jobs of an action."""
PERIODS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
Text = Annotated[str, Field(max_length=300)]
Found: TypeAlias = Sequence[DeadLetterModel | JobSummary | ScheduleView]


class Choice(BaseModel):
    """The query parameters of a page, or the fields of its form. Each page uses some of them."""

    id: Annotated[list[Text], Field(max_length=BULK)] = []
    all: bool = False
    action: Text | None = None
    state: DeadLetterState | JobStatus | Literal["enabled", "disabled", "broken"] | None = None
    task: Text | None = None
    error: Text | None = None
    owner: Text | None = None
    find: Text | None = None
    actor: Text | None = None
    subject: Text | None = None
    since: Literal["1h", "24h", "7d"] | None = None
    until: Time | None = None
    after: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Drop the empty fields of a form."""
        return {name: value for name, value in given.items() if value != ""}

    @property
    def begin(self) -> datetime | None:
        """The start of the chosen period, or None for any time."""
        return datetime.now(UTC) - PERIODS[self.since] if self.since else None

    @property
    def is_bulk(self) -> bool:
        """Whether more than one thing may be chosen."""
        return self.all or len(self.id) > 1

    @property
    def filters(self) -> dict[str, Any]:
        """The filters, for links and forms."""
        names = {"state", "task", "error", "owner", "find", "since"}
        return self.model_dump(mode="json", include=names, exclude_none=True)

    def letters(self) -> DeadLetterFilters:
        """Return the filters of dead letters. Any other state counts as `dead`."""
        state = self.state if isinstance(self.state, DeadLetterState) else DeadLetterState.DEAD
        return DeadLetterFilters(
            task=self.task,
            error=self.error,
            since=self.begin,
            until=self.until,
            state=state,
            ids=None if self.all or not self.id else self.id,
        )

    def jobs(self) -> dict[str, Any]:
        """Return the filters of jobs. Any other state counts as `running`."""
        state = self.state if isinstance(self.state, JobStatus) else JobStatus.RUNNING
        return {"state": state, "task": self.task, "owner": self.owner, "since": self.begin}


async def find_letters(console: Console, choice: Choice) -> Found:
    """Return the chosen dead letters that nobody has replayed or discarded."""
    filters = choice.model_copy(update={"state": DeadLetterState.DEAD}).letters()
    return await console.worker.dead_letters.list(limit=BULK, brief=True, **filters)


async def find_schedules(console: Console, choice: Choice) -> Found:
    """Return the chosen schedules."""
    found = await console.worker.schedules.list()
    if choice.id and not choice.all:
        return [each for each in found if each.id in choice.id]
    named = [each for each in found if (choice.find or "") in f"{each.id} {each.task} {each.name}"]
    return [each for each in named if choice.state in (None, state_of(each))][:BULK]


async def find_jobs(console: Console, choice: Choice) -> Found:
    """Return the chosen jobs."""
    jobs = console.worker.jobs
    if not choice.all:
        return await jobs.read_many(choice.id)
    found: list[JobSummary] = []
    after = choice.after
    for _ in range(PAGES):
        page = await jobs.browse(**choice.jobs(), after=after, limit=1000)
        found += page.jobs
        after = page.after
        if after is None or len(found) >= BULK:
            break
    return found[:BULK]


def state_of(schedule: ScheduleView) -> str:
    """Return `enabled`, `disabled` or `broken`."""
    if schedule.problem:
        return "broken"
    return "enabled" if schedule.enabled else "disabled"
