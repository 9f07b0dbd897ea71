"""The producer's side: messages go into the queue, and callers wait for jobs."""

import asyncio
import time

from core.database import current_transaction
from core.logging import get_logger
from core.tasks import outbox
from core.tasks.engine import Engine, Envelope
from core.tasks.message import Message, Signer
from core.tasks.records import JobRecord, JobStatus, RecordFields
from core.tasks.sensitive import Cipher

logger = get_logger(__name__)

POLL_SECONDS = 0.03


class Queue:
    """A running engine, with the keys for its messages.

    Args:
        engine: Carries the messages.
        signer: Signs them.
        cipher: Encrypts their sensitive arguments.
        record_ttl: Seconds for which the record of an ended job is kept.
    """

    def __init__(
        self,
        engine: Engine,
        signer: Signer,
        cipher: Cipher,
        record_ttl: float,
    ) -> None:
        self.engine = engine
        self.signer = signer
        self.cipher = cipher
        self._record_ttl = record_ttl
        self._callers: dict[str, list[asyncio.Future[JobRecord]]] = {}
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
        due = at if at is not None and at > time.time() else None
        record: RecordFields = {
            "state": JobStatus.SCHEDULED if due else JobStatus.PENDING,
            "task": message.task,
            "owner": message.owner,
            "correlation_id": message.correlation_id,
            "at": due,
        }
        body = self.signer.dump(message)
        return Envelope(message.id, body, record, due, priority, following or {})

    async def send(self, envelopes: list[Envelope], chosen_ids: list[str]) -> None:
        """Send messages now. In a MongoDB transaction, send them if and when it commits.

        Args:
            envelopes: The messages.
            chosen_ids: The job ids among them that may have been used before.
        """
        transaction = current_transaction()
        if not envelopes:
            return
        if transaction is None:
            await self.dispatch(envelopes, chosen_ids)
            return
        await outbox.store(transaction.session, envelopes)
        transaction.on_commit(self._relay_committed)

    async def dispatch(self, envelopes: list[Envelope], chosen_ids: list[str]) -> None:
        """Publish messages. A message whose job has ended is dropped.

        The engine ignores the message of an unfinished job that it holds. If a process ended
        before such a message reached the queue, it is published now.

        Args:
            envelopes: The messages.
            chosen_ids: The job ids among them that may have been used before.
        """
        if chosen_ids:
            records = await self.engine.records.read(chosen_ids)
            pairs = zip(chosen_ids, records, strict=True)
            ended = {job_id for job_id, record in pairs if record.status.is_final}
            envelopes = [envelope for envelope in envelopes if envelope.id not in ended]
        await self.engine.publish(envelopes)

    async def relay(self) -> None:
        """Dispatch the messages that transactions have committed to the outbox."""
        await outbox.relay(self.dispatch)

    async def _relay_committed(self) -> None:
        try:
            await self.relay()
        except Exception as error:
            # The transaction has committed, so it must not seem to have failed.
            logger.warning(
                "jobs stay in the outbox for the workers",
                error=str(error)[:200],
            )

    async def claim(self, keys: dict[str, str], at: float | None) -> dict[str, str]:
        """Return, for each key, the unfinished job that holds it, or else the job given for it.

        Args:
            keys: For each key, the id of a new job.
            at: When these jobs are due, in seconds since 1970; at once if None.
        """
        return await self.engine.records.claim(keys, self._ttl_from(at))

    async def abort(self, job_id: str) -> None:
        """Abort a pending or scheduled job, or tell the worker of a running one.

        Args:
            job_id: The job's id.
        """
        record = await self.read(job_id)
        # An aborted record that expires before the job is due would let the job run.
        await self.engine.records.request_abort(job_id, self._ttl_from(record.at))

    def _ttl_from(self, at: float | None) -> float:
        return self._record_ttl + max(0.0, (at or 0) - time.time())

    async def read(self, job_id: str) -> JobRecord:
        """Return a job's record.

        Args:
            job_id: The job's id.
        """
        (record,) = await self.engine.records.read([job_id])
        return record

    async def wait(self, job_id: str) -> JobRecord:
        """Wait until a job has ended, and return its record.

        All callers of this process share one read of the server, however many jobs they wait for.

        Args:
            job_id: The job's id.
        """
        future: asyncio.Future[JobRecord] = asyncio.get_running_loop().create_future()
        self._callers.setdefault(job_id, []).append(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return await future

    async def close(self) -> None:
        """End all waiting for jobs, with an error."""
        if self._poller:
            self._poller.cancel()
        error = RuntimeError("the queue was closed while waiting for a job")
        self._answer(list(self._callers), error)

    async def _poll(self) -> None:
        while self._drop_abandoned():
            ids = list(self._callers)
            try:
                records = await self.engine.records.read(ids)
            except Exception as error:
                self._answer(ids, error)
                return
            for job_id, record in zip(ids, records, strict=True):
                if record.status.is_final:
                    self._answer([job_id], record)
            await asyncio.sleep(POLL_SECONDS)

    def _drop_abandoned(self) -> bool:
        """Forget callers that timed out, and return whether any caller is left."""
        for job_id, futures in list(self._callers.items()):
            futures[:] = [future for future in futures if not future.done()]
            if not futures:
                del self._callers[job_id]
        return bool(self._callers)

    def _answer(self, ids: list[str], answer: JobRecord | Exception) -> None:
        futures = [future for job_id in ids for future in self._callers.pop(job_id, [])]
        for future in futures:
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
