"""The jobs of this service: listed by state, found by an id, and aborted."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from core.database import make_query
from core.models import DeadLetterModel, RunModel
from core.tasks.chain import stage_id
from core.tasks.dead_letters import DeadLetters
from core.tasks.engine import BadPosition, Listed
from core.tasks.queue import Queue
from core.tasks.records import STAGE, JobRecord, JobStatus
from core.tasks.summaries import ENDED, JobSummary, from_letter, from_record, from_run, join

MAX_EXAMINED = 500
"""A page with filters ends after this many unfinished jobs, even if few of them match."""
MAX_READS = 50
MAX_COUNTED = 100_000
MAX_FOUND = 100
MIN_PREFIX = 8
"""The log of a terminal shortens ids to this length."""
MAX_RUNS = 200
MAX_JOINED = 2000
MAX_LETTERS = 10
MAX_STAGES = 100
MAX_ID = 200

_HEX = re.compile(r"[0-9A-Fa-f-]+(:\d+)?")
_ID_FIELDS = ("_id", "job_id", "correlation_id")  # a run's own id is no text, so it never matches
_LAST_CHARACTER = "\U0010ffff"
_POSITION = re.compile(r"(\d{1,14}) (\d{1,6})")
_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs.

    Attributes:
        jobs: The jobs.
        after: The position of the next page, or None if this is the last one.
    """

    jobs: Sequence[JobSummary]
    after: str | None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """All that is known about one job.

    Attributes:
        summary: The summary of the job.
        record: The job's record. It is `unknown` if it has expired or is forged.
        runs: The kept runs, the oldest first.
        dead_letters: The dead letters, the newest first.
        chain: All stages of the job's chain, in order; empty if the job is not a stage.
    """

    summary: JobSummary
    record: JobRecord
    runs: Sequence[RunModel]
    dead_letters: Sequence[DeadLetterModel]
    chain: Sequence[JobSummary]


class Jobs:
    """The jobs of this service.

    Unfinished jobs come from the queue. With the engine `local`, these are the jobs of this
    process. Ended jobs come from the kept runs in MongoDB. A job that was aborted before its first
    run has one too.
    """

    def __init__(self, queue: Queue, dead_letters: DeadLetters) -> None:
        self._queue = queue
        self._dead_letters = dead_letters

    async def browse(
        self,
        *,
        state: JobStatus,
        task: str | None = None,
        owner: str | None = None,
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Return a page of the jobs of one state.

        Pending and running jobs are in the order in which workers take them, scheduled jobs in the
        order in which they are due, and ended jobs in the order of their last runs, the newest
        first. A page with filters examines a limited number of unfinished jobs, so it may be short
        or empty although another page follows.

        Args:
            state: The state; any but `unknown`.
            task: Return only jobs of this task.
            owner: Return only jobs of this user.
            since: Return only jobs that are due, or whose last run began, at this time or later.
            after: The `after` of the previous page, or None for the first page.
            limit: The largest number of jobs on the page.

        Raises:
            BadPosition: `after` is not a position that this method returned.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        if state in ENDED:
            query = make_query("started_at", since, None, task=task, owner=owner, ended_as=state)
            return await _read_ended(query, after, limit)
        found: list[JobSummary] = []
        examined = 0
        for _ in range(MAX_READS):
            most = min(limit - len(found), MAX_EXAMINED - examined)
            listed, after = await self._queue.engine.browse(state, after, most)
            examined += len(listed)
            for job in [self._check(state, each) for each in listed]:
                fits = task in (None, job.task) and owner in (None, job.owner)
                if fits and (since is None or (job.at and job.at >= since)):
                    found.append(job)
            if after is None or len(found) >= limit or examined >= MAX_EXAMINED:
                break
        return JobPage(found, after)

    def _check(self, state: JobStatus, listed: Listed) -> JobSummary:
        record = self._queue.refuse_forged(listed.id, listed.record)
        if record.state is JobStatus.UNKNOWN:
            state, record = JobStatus.UNKNOWN, JobRecord(error=record.error)
        if record.worker and state is not JobStatus.RUNNING:  # its last worker may have died
            record = replace(record, worker=None)
        return from_record(listed.id, record, state, listed.at)

    async def count(self) -> dict[JobStatus, int]:
        """Return the number of jobs by state.

        Ended jobs are counted by their kept runs, up to 100,000 for each state. If a task runs very
        often, only some of its completed runs are kept, so more jobs have completed. `Statistics`
        counts all runs.

        Raises:
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        stats = await self._queue.engine.stats()
        runs = RunModel.get_pymongo_collection()
        ended = {
            state: await runs.count_documents({"ended_as": state}, limit=MAX_COUNTED)
            for state in ENDED
        }
        return {
            JobStatus.PENDING: stats.pending,
            JobStatus.SCHEDULED: stats.scheduled,
            JobStatus.RUNNING: stats.running,
            **ended,
        }

    async def find(self, text: str) -> list[JobSummary]:
        """Return the jobs with this id, correlation id or id of a dead letter, the newest first.

        If no job has it, these are jobs whose ids begin with the text: at most 200, of which any
        may be left out if there are more. Except by its complete id, a job is found only if it has
        a kept run or a dead letter. Space around the text is ignored, and so is the case of a
        hexadecimal id.

        Args:
            text: The id, or its first 8 characters or more. It may come from a stranger.
        """
        text = _clean(text.strip().rstrip("…"))
        names = list({text, text.lower()}) if _HEX.fullmatch(text) else [text]
        same = [{"$in": names}]
        found = await self._summarize([*names, *await _find_ids(same, is_sorted=True)])
        if not found and len(text) >= MIN_PREFIX:
            alike = [{"$gte": name, "$lt": name + _LAST_CHARACTER} for name in names]
            found = await self._summarize(await _find_ids(alike, is_sorted=False))
        return sorted(found, key=lambda job: job.at or _OLDEST, reverse=True)

    async def read_many(self, job_ids: Sequence[str]) -> list[JobSummary]:
        """Return the jobs with these ids, in this order. A job that is not found is left out.

        Args:
            job_ids: The ids. They may come from a stranger.

        Raises:
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        return await self._summarize([_clean(job_id) for job_id in job_ids])

    async def get(self, job_id: str) -> JobDetails | None:
        """Return a job with its runs, dead letters and chain, or None if it is not found.

        Args:
            job_id: The job's id. It may come from a stranger.
        """
        job_id = _clean(job_id)
        summaries = await self._summarize([job_id])
        if not summaries:
            return None
        runs = await RunModel.find({"job_id": job_id}).sort("-started_at").limit(MAX_RUNS).to_list()
        stage = STAGE.fullmatch(job_id)
        stages = [stage_id(stage[1], number) for number in range(MAX_STAGES)] if stage else []
        return JobDetails(
            summary=summaries[0],
            record=await self._queue.read(job_id),
            runs=runs[::-1],
            dead_letters=await self._dead_letters.list(
                job_ids=[job_id],
                state=None,
                limit=MAX_LETTERS,
            ),
            chain=await self._summarize(stages),
        )

    async def abort(self, job_id: str, timeout: float = 5) -> JobStatus:
        """Abort a job, and return its status afterwards. A job that has ended keeps its status.

        Args:
            job_id: The job's id.
            timeout: Seconds to wait for the end of a running job. If its status is `running`
                afterwards, its worker is still trying to cancel it.

        Raises:
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        job_id = _clean(job_id)
        status = (await self._queue.read(job_id)).status
        if status is JobStatus.UNKNOWN:
            found = await self._summarize([job_id])
            return found[0].state if found else status
        if status.is_final:
            return status
        await self._queue.abort(job_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._queue.wait(job_id)
        return (await self._queue.read(job_id)).status

    async def _summarize(self, ids: list[str]) -> list[JobSummary]:
        """Return the jobs that are found, in the order of the ids, each one once."""
        ids = list(dict.fromkeys(ids))
        records = await self._queue.read_many(ids)
        query = RunModel.find({"job_id": {"$in": ids}})
        runs = await query.sort("-started_at").limit(MAX_JOINED).to_list()
        letters = await self._dead_letters.list(
            job_ids=ids,
            state=None,
            brief=True,
            limit=MAX_JOINED,
        )
        ends = [*map(from_letter, reversed(letters)), *map(from_run, reversed(runs))]
        # If the last kept run was retried, only a dead letter shows that the job has failed.
        last = {job.id: job for job in sorted(ends, key=lambda job: job.state.is_final)}
        found = [
            join(job_id, record, last.get(job_id))
            for job_id, record in zip(ids, records, strict=True)
        ]
        return [job for job in found if job]


async def _find_ids(tests: list[dict[str, Any]], *, is_sorted: bool) -> list[str]:
    """Return the ids of jobs with an id that passes a test. Each field of the query has an index.

    Sorting reads all runs that match, so it is for complete ids.
    """
    query = {"$or": [{name: test} for name in _ID_FIELDS for test in tests]}
    ids = []
    for model, time in ((RunModel, "started_at"), (DeadLetterModel, "died_at")):
        cursor = model.get_pymongo_collection().find(query, {"job_id": True}).limit(MAX_FOUND)
        if is_sorted:
            cursor = cursor.sort(time, -1)
        ids += [document["job_id"] async for document in cursor]
    return ids


async def _read_ended(query: dict[str, Any], after: str | None, limit: int) -> JobPage:
    """Return a page of kept runs.

    A position consists of the time of the last run in milliseconds, and of the number of runs with
    this time on the pages so far.
    """
    last, seen = None, 0
    if after:
        position = _POSITION.fullmatch(after)
        if position is None:
            raise BadPosition
        last, seen = datetime.fromtimestamp(int(position[1]) / 1000, UTC), int(position[2])
        query = {"$and": [query, {"started_at": {"$lte": last}}]}
    found = RunModel.find(query).sort("-started_at").skip(seen)
    runs = await found.limit(limit + 1).to_list()
    page = runs[:limit]
    jobs = [from_run(run) for run in page]
    if len(runs) <= limit:
        return JobPage(jobs, None)
    oldest = page[-1].started_at
    same = [run for run in page if run.started_at == oldest]
    seen = len(same) + (seen if oldest == last else 0)
    return JobPage(jobs, f"{round(oldest.timestamp() * 1000)} {seen}")


def _clean(text: str) -> str:
    """Return an id from a stranger in a form that MongoDB accepts."""
    return text[:MAX_ID].encode(errors="replace").decode()
