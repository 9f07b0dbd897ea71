"""Statistics: the number of runs by task, their durations, and the time that jobs waited."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from core.models import MinuteModel
from core.tasks.metrics import BUCKETS
from core.tasks.minutes import DURATIONS, ENDINGS, FIELDS, KEPT, LONGEST, SPANS, WAITS

DAY, HOUR, MINUTE = SPANS


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """The runs of a task that ended in a period.

    Attributes:
        task: The task's name; None for the sum of all tasks.
        completed: The number of runs that completed.
        failed: The number of runs that failed for good.
        retried: The number of runs after which the job was retried.
        aborted: The number of runs that were aborted.
        durations: The number of runs in each bucket of `core.tasks.metrics.BUCKETS`, and above
            the last bucket.
        waits: The number of jobs in each bucket, by the time from when a job was due until its
            first start. A job that its first attempt postpones counts again.
        longest: The longest duration in seconds; infinite if an earlier release stored the runs.
        longest_wait: The longest of the waiting times, in the same way.
    """

    task: str | None
    completed: int
    failed: int
    retried: int
    aborted: int
    durations: Sequence[int]
    waits: Sequence[int]
    longest: float = inf
    longest_wait: float = inf

    @property
    def runs(self) -> int:
        """The number of all runs."""
        return self.completed + self.failed + self.retried + self.aborted

    def duration(self, share: float) -> float | None:
        """Return the seconds that this share of the runs took at most, or None without runs.

        Args:
            share: From 0 to 1, such as 0.95.
        """
        return _estimate(self.durations, share, self.longest)

    def wait(self, share: float) -> float | None:
        """Return the seconds that this share of the jobs waited at most, or None without jobs.

        Args:
            share: From 0 to 1, such as 0.95.
        """
        return _estimate(self.waits, share, self.longest_wait)


@dataclass(frozen=True, slots=True)
class Period:
    """The runs that ended in a period, by task and as a sum."""

    start: datetime
    tasks: Mapping[str, TaskFigures]
    total: TaskFigures


class Statistics:
    """The statistics of the last 14 days, of all workers."""

    async def read(
        self,
        since: datetime,
        until: datetime | None = None,
        step: timedelta | None = None,
        task: str | None = None,
        *,
        by_task: bool = True,
    ) -> list[Period]:
        """Return the figures of the runs that ended between two times, as one or several periods.

        Each worker stores its figures at the end of each minute, by its clock, so the runs of the
        current minute are missing.

        Args:
            since: The start. It is rounded down to a whole step. Without a step, it is rounded down
                to a minute, or to an hour if the range is a day or longer.
            until: The end; defaults to now.
            step: The length of each period: whole hours, or whole minutes if the range is at most a
                day. Defaults to one period for the whole range.
            task: Read only this task.
            by_task: Whether to return the figures of each task. The sum alone is faster.

        Raises:
            ValueError: The step is not a whole number of hours, or of minutes within a day.
        """
        now = datetime.now(UTC)
        first = _minute(max(since, now - KEPT))
        last = _minute(min(until or now, now) + timedelta(seconds=59))
        length = _choose_length(step, last - first)
        first -= first % length
        if first >= last:
            return []
        spans = [span for span in SPANS if not step or length % span == 0]
        # The documents of the current hour and day grow, so they need not have ended.
        end = last if until and until < now else last + DAY - last % DAY
        start = _find_start(first, length) if step else _date(first)
        group = {"start": start, "task": "$tasks.task" if by_task else None}
        tasks: defaultdict[datetime, dict[str, TaskFigures]] = defaultdict(dict)
        totals: defaultdict[datetime, dict[str, Any]] = defaultdict(_make_empty)
        async for row in await _add_up(_split(first, end, spans), group, task):
            key = row.pop("_id")
            _merge(totals[key["start"]], row)
            if by_task:
                tasks[key["start"]][key["task"]] = _make_figures(key["task"], row)
        starts = map(_date, range(first, last, length if step else last - first))
        return [Period(each, tasks[each], _make_figures(None, totals[each])) for each in starts]


def _choose_length(step: timedelta | None, time: int) -> int:
    """Return the minutes to which the start is rounded."""
    if step is None:
        return MINUTE if time < DAY else HOUR
    minutes, rest = divmod(step, timedelta(minutes=1))
    if rest or minutes < 1 or (minutes % HOUR and time > DAY + 1):
        raise ValueError(f"a step is whole hours, or whole minutes within a day, not {step}")
    return minutes


def _split(first: int, last: int, spans: Sequence[int]) -> list[dict[str, Any]]:
    """Return queries that cover a time with the longest spans that fit."""
    if first >= last:
        return []
    span, *shorter = spans
    begin, end = -(-first // span) * span, last // span * span
    if begin >= end:
        return _split(first, last, shorter)
    query = {"minutes": span, "start": {"$gte": _date(begin), "$lt": _date(end)}}
    return [query, *_split(first, begin, shorter), *_split(end, last, shorter)]


def _find_start(first: int, length: int) -> dict[str, Any]:
    """Return an expression for the start of a document's period."""
    offset = {"$mod": [{"$subtract": ["$start", _date(first)]}, length * 60_000]}
    return {"$subtract": ["$start", offset]}


async def _add_up(
    queries: list[dict[str, Any]], group: dict[str, Any], task: str | None
) -> AsyncIterator[dict[str, Any]]:
    sums = {name: {"$sum": f"$tasks.{name}"} for name in FIELDS}
    longest = {name: {"$max": {"$ifNull": [f"$tasks.{name}", inf]}} for name in LONGEST}
    return await MinuteModel.get_pymongo_collection().aggregate(
        [
            {"$match": {"$or": queries}},
            {"$unwind": "$tasks"},
            {"$match": {"tasks.task": task} if task else {}},
            {"$group": {"_id": group, **sums, **longest}},
        ]
    )


def _make_empty() -> dict[str, Any]:
    return dict.fromkeys((*FIELDS, *LONGEST), 0)


def _merge(total: dict[str, Any], row: Mapping[str, Any]) -> None:
    for name in FIELDS:
        total[name] += row[name]
    for name in LONGEST:
        total[name] = max(total[name], row[name])


def _make_figures(task: str | None, counts: Mapping[str, Any]) -> TaskFigures:
    longest, longest_wait = (counts[name] for name in LONGEST)
    return TaskFigures(
        task,
        **{ending: counts[ending] for ending in ENDINGS},
        durations=[counts[name] for name in DURATIONS],
        waits=[counts[name] for name in WAITS],
        longest=longest,
        longest_wait=longest_wait,
    )


def _minute(time: datetime) -> int:
    return int(time.timestamp() // 60)


def _date(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _estimate(counts: Sequence[int], share: float, longest: float) -> float | None:
    """Interpolate in a bucket, as `histogram_quantile` of Prometheus does.

    The runs of a bucket count as evenly spread. The result is never above the longest time. If this
    is unknown, a result above the last bucket is its limit.
    """
    highest = longest if longest < inf else float(BUCKETS[-1])
    rank = share * sum(counts)
    lower = 0.0
    for limit, count in zip((*BUCKETS, highest), counts, strict=True):
        upper = min(limit, highest)
        if count and rank <= count:
            return lower + (upper - lower) * max(rank, 0) / count
        rank -= count
        lower = upper
    return lower if any(counts) else None
