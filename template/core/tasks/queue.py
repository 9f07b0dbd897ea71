"""The producer's side of the queue: it sends messages, and waits for jobs to end."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from core.database import current_transaction, summarize_error
from core.logging import get_logger
from core.tasks import outbox
from core.tasks.engine import Engine
from core.tasks.errors import BadMessage, describe_error
from core.tasks.history import History
from core.tasks.message import WRONG_SIGNATURE, Message, Signer
from core.tasks.outcome import Envelope
from core.tasks.records import JobRecord, JobStatus, ProgressFields, RecordFields
from core.tasks.sensitive import Cipher

logger = get_logger(__name__)

POLL_SECONDS = 0.03
CLAIM_SECONDS = 7 * 86400
"""How long an unfinished job holds a unique key."""

Answer = asyncio.Future[JobRecord]
"""The answer that one caller of `Queue.wait` is waiting for."""


class Queue:
    """A running engine, with the keys for its messages. It belongs to the running event loop.

    Args:
        engine: Carries the messages.
        signer: Signs the messages and the records.
        cipher: Encrypts the sensitive arguments.
        record_ttl: Seconds for which the record of an ended job is kept.
        max_arguments: The largest size of a job's arguments, in bytes of JSON.
        history: Takes the jobs that are aborted before a run.
    """

    def __init__(
        self,
        engine: Engine,
        signer: Signer,
        cipher: Cipher,
        record_ttl: float,
        max_arguments: int,
        history: History,
    ) -> None:
        self.engine = engine
        self.signer = signer
        self.cipher = cipher
        self.record_ttl = record_ttl
        self.max_arguments = max_arguments
        self.history = history
        self._records = engine.records
        self._loop = asyncio.get_running_loop()
        self._callers: dict[str, list[Answer]] = {}
        self._poller: asyncio.Task[None] | None = None

    def seal(
        self,
        message: Message,
        at: float | None,
        priority: str,
        following: dict[str, RecordFields] | None = None,
    ) -> Envelope:
        """Sign a message and make its job's first record.

        Args:
            message: The message.
            at: When the job is due, in seconds since 1970; at once if None.
            priority: One of `PRIORITIES`.
            following: The records of the chain's later stages, by job id.
        """
        record: RecordFields = {
            "state": JobStatus.PENDING,
            **self.sign_record(message.id, message.task, message.owner),
        }
        if message.correlation_id != message.id:
            record["correlation_id"] = message.correlation_id
        if at is not None and at > time.time():
            record["state"] = JobStatus.SCHEDULED
            record["at"] = at
        return Envelope(
            id=message.id,
            body=self.signer.dump(message),
            record=record,
            at=record.get("at"),
            priority=priority,
            following=following or {},
        )

    def sign_record(
        self,
        job_id: str,
        task: str,
        owner: str | None,
        *result: Any,
    ) -> RecordFields:
        """Return the fields of a record that grant access, and their signature.

        Args:
            job_id: The job's id.
            task: The task's name.
            owner: The id of the user who enqueued the job, or None.
            *result: The result as plain JSON data, if the job has completed.
        """
        signature = self.signer.sign(job_id, task, owner, *result)
        return {"task": task, "owner": owner, "signature": signature}

    def is_ours(self, job_id: str, record: JobRecord) -> bool:
        """Return whether a record's task, owner and result were written with one of our keys.

        Args:
            job_id: The job's id.
            record: The record as it was read.
        """
        values = [job_id, record.task, record.owner]
        if record.state is JobStatus.COMPLETED:
            values.append(record.result)
        elif record.result is not None:
            return False
        return self.signer.accepts(record.signature, *values)

    def unseal(self, job_id: str, body: bytes) -> Message:
        """Return the message of a job, if it was signed with a valid key.

        Args:
            job_id: The job's id.
            body: The message's bytes.

        Raises:
            BadMessage: The message cannot be read, or belongs to another job.
        """
        return self.signer.load(job_id, body)

    async def send(self, envelopes: Iterable[Envelope]) -> None:
        """Send messages at once, or, in a MongoDB transaction, after its commit.

        Args:
            envelopes: The messages.

        Raises:
            RuntimeError: Another event loop runs, as in `asyncio.run` in a thread.
        """
        self._check_loop()
        transaction = current_transaction()
        if transaction is None:
            await self.engine.publish(envelopes)
            return
        await outbox.store(transaction.session, envelopes)
        transaction.on_commit(self._relay_committed)

    async def relay(self) -> None:
        """Publish the messages that transactions have committed to the outbox."""
        await outbox.relay(self.engine.publish)

    async def _relay_committed(self) -> None:
        try:
            await self.relay()
        except Exception as error:
            # The transaction has committed, so it must not seem to have failed.
            reason = summarize_error(error)
            logger.warning("jobs stay in the outbox for the workers", error=reason)

    async def claim(self, keys: dict[str, str], at: float | None) -> dict[str, str]:
        """Let new jobs claim keys. A key that an unfinished job holds stays with that job.

        Args:
            keys: For each key, the id of a new job.
            at: When these jobs are due, in seconds since 1970; at once if None.

        Returns:
            For each key, the id of the job that holds it now.
        """
        self._check_loop()
        ttl = max(self._ttl_from(at), CLAIM_SECONDS)
        claims = {key: f"{self.signer.sign(key, job_id)} {job_id}" for key, job_id in keys.items()}
        holders = keys.copy()
        for key, claim in (await self._records.claim(claims, ttl)).items():
            signature, _, holder = claim.partition(" ")
            if self.signer.accepts(signature, key, holder):
                holders[key] = holder
            else:
                logger.warning("holder of a unique key refused", job_id=holder)
        return holders

    async def abort(self, job_id: str) -> None:
        """Abort a pending or scheduled job, or ask the worker of a running one to cancel it.

        Args:
            job_id: The job's id.
        """
        record = await self.read(job_id)
        # An aborted record that expires before the job is due would let the job run.
        ttl = self._ttl_from(record.at)
        is_aborted = await self._records.request_abort(job_id, ttl)
        if is_aborted and record.task:  # a forged record says nothing
            await self.history.store_abort(job_id, record)

    def _ttl_from(self, at: float | None) -> float:
        """Return the seconds until the record of a job that is due at this time expires."""
        until_due = (at or 0) - time.time()
        return self.record_ttl + max(0.0, until_due)

    async def read(self, job_id: str) -> JobRecord:
        """Return a job's record.

        Args:
            job_id: The job's id.
        """
        (record,) = await self.read_many([job_id])
        return record

    async def read_many(self, job_ids: list[str]) -> list[JobRecord]:
        """Return the records of jobs, in this order, with one read of the server.

        Args:
            job_ids: The jobs' ids.
        """
        self._check_loop()
        records = await self._records.read(job_ids)
        return [self.refuse_forged(*each) for each in zip(job_ids, records, strict=True)]

    def refuse_forged(self, job_id: str, record: JobRecord) -> JobRecord:
        """Return a record, or an unknown one in place of a record that is not ours.

        Args:
            job_id: The job's id.
            record: The record as it was read.
        """
        if record.state is JobStatus.UNKNOWN:
            return record
        if self.is_ours(job_id, record):
            return record if record.correlation_id else replace(record, correlation_id=job_id)
        logger.warning("record refused", job_id=job_id, error=WRONG_SIGNATURE)
        return JobRecord(error=describe_error(BadMessage(WRONG_SIGNATURE)))

    async def write_progress(self, job_id: str, progress: ProgressFields, fence: int) -> None:
        """Keep the progress that a job reports.

        Args:
            job_id: The job's id.
            progress: The progress.
            fence: The fence of the run.
        """
        self._check_loop()
        await self._records.write_progress(job_id, progress, fence)

    async def wait(self, job_id: str) -> JobRecord:
        """Wait until a job has ended, and return its record.

        All callers of this process share one read of the server, however many jobs they wait for.

        Args:
            job_id: The job's id.
        """
        self._check_loop()
        future: Answer = self._loop.create_future()
        self._callers.setdefault(job_id, []).append(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return await future

    def _check_loop(self) -> None:
        # The connections would break for the other jobs of this process, too.
        if asyncio.get_running_loop() is not self._loop:
            hint = "use `task.enqueue_sync` or `anyio.from_thread.run` instead of `asyncio.run`"
            raise RuntimeError(f"the service runs in another event loop; {hint}")

    async def close(self) -> None:
        """Close the queue. Calls of `wait` that have not ended raise an error."""
        if self._poller:
            self._poller.cancel()
        error = RuntimeError("the queue was closed while waiting for a job")
        self._answer(list(self._callers), error)

    async def _poll(self) -> None:
        while self._drop_abandoned():
            ids = list(self._callers)
            try:
                records = await self._records.read(ids)
            except Exception as error:
                self._answer(ids, error)
                return
            for job_id, record in zip(ids, records, strict=True):
                if record.status.is_final:
                    self._answer([job_id], self.refuse_forged(job_id, record))
            await asyncio.sleep(POLL_SECONDS)

    def _drop_abandoned(self) -> bool:
        """Forget callers that timed out, and return whether any caller is left."""
        for job_id, futures in list(self._callers.items()):
            futures[:] = [future for future in futures if not future.done()]
            if not futures:
                del self._callers[job_id]
        return bool(self._callers)

    def _answer(self, ids: list[str], answer: JobRecord | Exception) -> None:
        for job_id in ids:
            for future in self._callers.pop(job_id, []):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
