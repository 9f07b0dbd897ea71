"""The producer's side: messages are signed and published, and jobs are watched."""

import asyncio
import time

from core.database import current_transaction
from core.logging import get_logger
from core.tasks import outbox
from core.tasks.engine import Delivery, Engine
from core.tasks.message import Message, Signer
from core.tasks.records import Fields, JobStatus, status_of
from core.tasks.sensitive import Cipher

logger = get_logger(__name__)

POLL_SECONDS = 0.03


class Queue:
    """An engine that is running, and the keys for what it carries.

    Args:
        engine: Carries the messages.
        signer: Signs them.
        cipher: Encrypts their sensitive arguments.
        record_ttl: Seconds for which the record of an ended job is kept.
    """

    def __init__(self, engine: Engine, signer: Signer, cipher: Cipher, record_ttl: float) -> None:
        self.engine = engine
        self.signer = signer
        self.cipher = cipher
        self._record_ttl = record_ttl
        self._waiting: dict[str, list[asyncio.Future[Fields]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def publish(self, deliveries: list[Delivery], chosen_ids: list[str]) -> None:
        """As `send`; inside a MongoDB transaction once it has committed, and not at all where it does not."""
        transaction = current_transaction()
        if not deliveries:
            return
        if transaction is None:
            await self.send(deliveries, chosen_ids)
        else:
            await outbox.store(transaction.session, deliveries)
            transaction.on_commit(self.relay_now)

    async def relay(self) -> None:
        """Put what transactions have committed into the queue."""
        await outbox.relay(self.send)

    async def relay_now(self) -> None:
        """As `relay`; where that fails, what waits is left to the workers."""
        try:
            await self.relay()
        except Exception as error:  # whatever it is: the transaction has committed, and must not seem to have failed
            logger.warning("jobs wait in the outbox", error=str(error)[:200])

    async def claim(self, keys: dict[str, str], at: float | None) -> dict[str, str]:
        """For each key the unfinished job that holds it; the job given with it, where there is none.

        Args:
            keys: For each key the id of a new job.
            at: When these jobs are due, in seconds since 1970, or None for at once.
        """
        return await self.engine.records.claim(keys, self._record_ttl + max(0.0, (at or 0) - time.time()))

    async def send(self, deliveries: list[Delivery], chosen_ids: list[str]) -> None:
        """Publish messages, except those of jobs that have already ended.

        An unfinished job with the same id makes the engine ignore the message; one whose message never got into the
        queue, because the process ended in between, is queued now.

        Args:
            deliveries: What to publish.
            chosen_ids: Those of their ids that were not made at random, so that a job may have them already.
        """
        if chosen_ids:
            records = await self.engine.records.read(chosen_ids)
            ended = {job_id for job_id, record in zip(chosen_ids, records, strict=True) if status_of(record).is_final}
            deliveries = [delivery for delivery in deliveries if delivery.id not in ended]
        await self.engine.publish(deliveries)

    def delivery(
        self, message: Message, at: float | None, priority: str, following: dict[str, Fields] | None = None
    ) -> Delivery:
        """Sign a message and make its job's record.

        Args:
            message: What to publish.
            at: When it is due, in seconds since 1970, or None for at once.
            priority: One of `PRIORITIES`.
            following: The records of jobs that will follow it.
        """
        due = at if at is not None and at > time.time() else None
        record: Fields = {
            "state": JobStatus.SCHEDULED if due else JobStatus.PENDING,
            "task": message.task,
            "owner": message.owner,
            "correlation_id": message.correlation_id,
            "at": due,
        }
        return Delivery(message.id, self.signer.dump(message), record, due, priority, following or {})

    async def abort(self, job_id: str) -> None:
        """Abort a job that waits, or tell its worker to where it runs."""
        # Not forgotten before it would have been due, else it would run then after all.
        due = (await self.read(job_id)).get("at") or 0
        await self.engine.records.request_abort(job_id, self._record_ttl + max(0.0, due - time.time()))

    async def read(self, job_id: str) -> Fields:
        """A job's record, empty where there is none."""
        return (await self.engine.records.read([job_id]))[0]

    async def status(self, job_id: str) -> JobStatus:
        """Where a job stands."""
        return status_of(await self.read(job_id))

    async def wait(self, job_id: str) -> Fields:
        """Wait until a job has ended, and return its record.

        All callers of this process share one read of the queue's server at a time, however many jobs they wait for.
        """
        future: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, []).append(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        return await future

    async def close(self) -> None:
        """Give up waiting for jobs."""
        if self._poller:
            self._poller.cancel()
        self._settle(list(self._waiting), RuntimeError("the queue was closed while waiting for a job"))

    async def _poll(self) -> None:
        while self._drop_abandoned():
            ids = list(self._waiting)
            try:
                records = await self.engine.records.read(ids)
            except Exception as error:
                self._settle(ids, error)
                return
            for job_id, record in zip(ids, records, strict=True):
                if status_of(record).is_final:
                    self._settle([job_id], record)
            await asyncio.sleep(POLL_SECONDS)

    def _drop_abandoned(self) -> bool:
        """Forget callers that timed out; whether any is left."""
        for job_id, futures in list(self._waiting.items()):
            futures[:] = [future for future in futures if not future.done()]
            if not futures:
                del self._waiting[job_id]
        return bool(self._waiting)

    def _settle(self, ids: list[str], answer: Fields | Exception) -> None:
        for job_id in ids:
            for future in self._waiting.pop(job_id, []):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
