"""The counts of runs by task, which each worker adds up and stores in MongoDB once a minute."""

import time
from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any

from bson import ObjectId
from pymongo import ReplaceOne

from core.models import MinuteModel
from core.tasks.metrics import BUCKETS

KEPT = timedelta(days=14)
SPANS = (1440, 60, 1)
"""The lengths of stored spans in minutes. Days and hours make long periods quick to read."""
MAX_SPANS = 100
"""The largest number of spans in memory. If MongoDB is down for longer, the oldest are dropped."""
ENDINGS = ("completed", "failed", "retried", "aborted")
DURATIONS = [f"d{number}" for number in range(len(BUCKETS) + 1)]
WAITS = [f"w{number}" for number in range(len(BUCKETS) + 1)]
FIELDS = (*ENDINGS, *DURATIONS, *WAITS)
"""The counts of a task: how runs ended, and the buckets of durations and of waiting times."""
LONGEST = ("dmax", "wmax")
"""The longest duration and the longest waiting time of a task, in seconds. Documents of earlier
releases lack them."""


_NAMES = (*FIELDS, *LONGEST)
_PLACES = {name: place for place, name in enumerate(_NAMES)}
_DURATIONS, _WAITS, _DMAX, _WMAX = (_PLACES[name] for name in ("d0", "w0", *LONGEST))


class _Counts(defaultdict[str, list[float]]):
    """The counts of a span: for each task a value for each of `_NAMES`. A list is fast."""

    def __init__(self) -> None:
        super().__init__(lambda: [0] * len(FIELDS) + [0.0] * len(LONGEST))
        self.id = ObjectId()

    def merge(self, other: "_Counts") -> None:
        for task, values in other.items():
            own = self[task]
            own[:_DMAX] = map(add, own[:_DMAX], values[:_DMAX])
            own[_DMAX:] = map(max, own[_DMAX:], values[_DMAX:])

    def dump(self) -> list[dict[str, Any]]:
        return [
            {"task": task}
            | {
                name: value
                for name, value in zip(_NAMES, values, strict=True)
                if value or name in LONGEST
            }
            for task, values in self.items()
        ]


class MinuteCounts:
    """Counts the runs of one worker. Its clock decides to which minute a run belongs.

    Args:
        worker: The name of the worker.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._minute = int(time.time() // 60)
        self._counts = _Counts()
        self._spans: dict[tuple[int, int], _Counts] = {}
        self._is_stored = True

    def note_end(self, task: str, ended_as: str, seconds: float) -> None:
        """Count a run that has ended.

        Args:
            task: The task's name.
            ended_as: One of `ENDINGS`.
            seconds: The duration of the run.
        """
        values = self._counts[task]
        values[_PLACES[ended_as]] += 1
        values[_DURATIONS + bisect_left(BUCKETS, seconds)] += 1
        if seconds > values[_DMAX]:
            values[_DMAX] = seconds

    def note_wait(self, task: str, seconds: float) -> None:
        """Count the time from when a job was due to its start.

        Args:
            task: The task's name.
            seconds: The time.
        """
        values = self._counts[task]
        values[_WAITS + bisect_left(BUCKETS, seconds)] += 1
        if seconds > values[_WMAX]:
            values[_WMAX] = seconds

    async def write(self, is_last: bool = False) -> float:
        """Store the minutes that have ended, and return the seconds until the current one ends.

        Args:
            is_last: Whether to store the current minute too, because the worker stops.
        """
        minute = int(time.time() // 60)
        if is_last or minute != self._minute:
            self._close()
            self._minute = minute
        if not self._is_stored:
            await self._store()
        return 60 - time.time() % 60

    def _close(self) -> None:
        """End the current minute, and add its counts to its hour and its day."""
        ended, self._counts = self._counts, _Counts()
        for span in SPANS if ended else ():
            start = self._minute - self._minute % span
            self._spans.setdefault((span, start), _Counts()).merge(ended)
            self._is_stored = False
        while len(self._spans) > MAX_SPANS:
            del self._spans[min(self._spans)]

    async def _store(self) -> None:
        documents = [self._dump(*key, counts) for key, counts in self._spans.items()]
        # Replacing is safe to repeat after an outage. It also updates the current hour and day.
        writes = [ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in documents]
        await MinuteModel.get_pymongo_collection().bulk_write(writes, ordered=False)
        self._is_stored = True
        for span, start in list(self._spans):
            if not start <= self._minute < start + span:
                del self._spans[span, start]

    def _dump(self, span: int, start: int, counts: _Counts) -> dict[str, Any]:
        started = datetime.fromtimestamp(start * 60, UTC)
        return {
            "_id": counts.id,
            "start": started,
            "minutes": span,
            "worker": self._worker,
            "tasks": counts.dump(),
            "expires_at": started + timedelta(minutes=span) + KEPT,
        }
