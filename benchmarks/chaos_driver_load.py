"""The jobs of one scenario, the caller that enqueues them, and the count of how they ended."""

import asyncio
import time
from dataclasses import dataclass

from pymongo.errors import PyMongoError

from app.main import service
from app.tasks.chaos import Effect, count, count_once
from core.models import DeadLetterModel
from core.tasks import Job, QueueUnavailable

RETRY_SECONDS = 0.2
POLL_SECONDS = 0.5
BATCH = 500


@dataclass(frozen=True)
class Outcome:
    """The counts of one scenario.

    Attributes:
        jobs: Jobs that `enqueue` has acknowledged.
        refused: Jobs that the caller could not enqueue before the limit.
        lost: Jobs without an effect and without a dead letter.
        stuck: Jobs that have not ended.
        failed: Dead letters of tasks that do not fail.
        doubled: Effects that happened twice, of the task without a key.
        doubled_with_key: Effects that happened twice, of the task with a key.
        recovery: Seconds from the end of the fault until all jobs enqueued by then had ended.
    """

    jobs: int
    refused: int
    lost: int
    stuck: int
    failed: int
    doubled: int
    doubled_with_key: int
    recovery: float

    @property
    def is_good(self) -> bool:
        """Whether the goals are reached."""
        return not any((self.refused, self.lost, self.stuck, self.failed, self.doubled_with_key))


class Load:
    """Jobs that a caller enqueues one after another during a fault.

    Args:
        jobs: The number of jobs. Every second one has a key.
        seconds: How long the caller takes if no call fails.
    """

    def __init__(self, jobs: int, seconds: float) -> None:
        self._jobs = jobs
        self._pause = seconds / jobs
        self.errors = 0
        """Calls that failed, and were repeated."""
        self._accepted: dict[tuple[str, int], Job[None]] = {}

    async def enqueue(self) -> None:
        """Enqueue all jobs. After an error, the caller tries the same job again."""
        started = time.monotonic()
        for number in range(self._jobs):
            task = count_once if number % 2 else count
            await self._enqueue(task, number)
            ahead = started + number * self._pause - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)

    async def _enqueue(self, task, number: int) -> None:
        while True:
            try:
                self._accepted[task.name, number] = await task.enqueue(number)
            except QueueUnavailable:
                self.errors += 1
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def recover(self, limit: float) -> float:
        """Wait until every job that was enqueued so far has ended, and return the seconds.

        Args:
            limit: The longest time to wait, in seconds.
        """
        started = time.monotonic()
        ids = [job.id for job in self._accepted.values()]
        # Other processes end the jobs, so there is no event to wait for.
        while await self._find_unfinished(ids) and time.monotonic() - started < limit:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - started

    async def count(self, recovery: float, lost: int) -> Outcome:
        """Count how the jobs ended.

        Args:
            recovery: See `Outcome`.
            lost: The number of jobs that the fault itself enqueued, and that were lost.
        """
        stuck = await self._find_unfinished([job.id for job in self._accepted.values()])
        letters = await self._find_dead_letters()
        effects = await Effect.find_all().to_list()
        plain = [effect for effect in effects if effect.id.startswith("number:")]
        keyed = [effect.number for effect in effects if not effect.id.startswith("number:")]
        effective = {("count", effect.number) for effect in plain}
        effective |= {("count_once", number) for number in keyed}
        without_effect = self._accepted.keys() - effective - letters
        return Outcome(
            jobs=len(self._accepted),
            refused=self._jobs - len(self._accepted),
            lost=lost + len(without_effect),
            stuck=len(stuck),
            failed=len(letters),
            doubled=sum(effect.runs for effect in plain) - len(plain),
            doubled_with_key=len(keyed) - len(set(keyed)),
            recovery=recovery,
        )

    async def _find_unfinished(self, ids: list[str]) -> list[str]:
        records = service.worker.queue.engine.records
        unfinished: list[str] = []
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            try:
                found = await records.read(some)
            except QueueUnavailable:
                return ids
            each = zip(some, found, strict=True)
            unfinished += [job_id for job_id, record in each if not record.status.is_final]
        return unfinished

    async def _find_dead_letters(self) -> set[tuple[str, int]]:
        letters = await DeadLetterModel.find_all().to_list()
        ids = {job.id: key for key, job in self._accepted.items()}
        return {ids[letter.job_id] for letter in letters if letter.job_id in ids}


async def wait_for_mongodb() -> None:
    """Wait until MongoDB answers again."""
    while True:
        try:
            await Effect.find_one()
        except PyMongoError:
            await asyncio.sleep(POLL_SECONDS)
        else:
            return
