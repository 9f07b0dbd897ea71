"""The streaq worker of this service: one handler runs every message."""

import asyncio
from contextlib import suppress
from typing import Any, cast

import coredis.exceptions
import streaq
from anyio import CancelScope, current_time, sleep
from coredis.response.types import StreamPendingExt
from streaq.constants import REDIS_GROUP
from streaq.types import StreamMessage
from streaq.utils import now_ms

from core.tasks.engine import PRIORITIES, Handler
from core.tasks.engines.streaq.batch import Batch
from core.tasks.outcome import Lost, Outcome, Retry

DOWN = (coredis.exceptions.ConnectionError, TimeoutError, OSError)
"""The errors that are raised while the server cannot be reached."""
OPERATION_SECONDS = 3.0
"""A server that takes longer hangs, and counts as down."""
IDLE_TIMEOUT_SECONDS = 20
"""After this time another worker takes the jobs of a killed one. streaq's default is 60 s."""
PUT_BACK = "again"
"""Stands for the time when a message is due: give the message to another worker now."""

# Returns the body of each message; false if another worker has it or its job has left the queue.
_BEGIN = """
local bodies = {}
for at = 1, #KEYS / 2 do
  local stream, id = KEYS[2 * at - 1], ARGV[at + 2]
  bodies[at] = false
  if #redis.call('xpending', stream, ARGV[1], id, id, 1, ARGV[2]) > 0 then
    bodies[at] = redis.call('get', KEYS[2 * at])
    if bodies[at] then
      redis.call('xclaim', stream, ARGV[1], ARGV[2], 0, id, 'justid')
    else
      redis.call('xack', stream, ARGV[1], id)
      redis.call('xdel', stream, id)
    end
  end
end
return bodies
"""

# Ends the messages that this worker still has. XACK alone would end those of another worker too.
# A message that is put back becomes a new entry: an old one would wake no other worker.
_END = """
for at = 1, #KEYS / 3 do
  local stream, delayed, task = KEYS[3 * at - 2], KEYS[3 * at - 1], KEYS[3 * at]
  local id, task_id, due = ARGV[3 * at + 1], ARGV[3 * at + 2], ARGV[3 * at + 3]
  if #redis.call('xpending', stream, ARGV[1], id, id, 1, ARGV[2]) > 0 then
    redis.call('xack', stream, ARGV[1], id)
    redis.call('xdel', stream, id)
    if due == 'again' then
      redis.call('xadd', stream, '*', 'task_id', task_id, 'enqueue_time', ARGV[3])
    elseif due == '' then
      redis.call('del', task)
    else
      redis.call('zadd', delayed, due, task_id)
    end
  end
end
"""

# Keeps the messages that this worker still has from being taken over.
_RENEW = """
for at, stream in ipairs(KEYS) do
  local id = ARGV[at + 2]
  if #redis.call('xpending', stream, ARGV[1], id, id, 1, ARGV[2]) > 0 then
    redis.call('xclaim', stream, ARGV[1], ARGV[2], 0, id, 'justid')
  end
end
"""


class StoppableWorker(streaq.Worker[None]):
    """A streaq worker that stops when an event is set, and leaves signals to the process.

    Attributes:
        stop: Set it to stop the worker.
        lost: Set when the connection to the server was lost. Running jobs continue.
        handler: Runs one message.
        takes_jobs: Whether it reads messages.
    """

    stop: asyncio.Event
    lost: asyncio.Event
    handler: Handler
    takes_jobs = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stop, self.lost = asyncio.Event(), asyncio.Event()
        self._begin = Batch(self._begin_all)
        self._end = Batch(self._end_all)

    async def signal_handler(self, scope: CancelScope) -> None:
        self.takes_jobs = True  # streaq calls this method when it begins to read messages
        try:
            await self.stop.wait()
        except asyncio.CancelledError:
            self.lost.set()  # another task of the worker failed, which cancelled all of them
            raise
        finally:
            self.takes_jobs = False
        scope.cancel("the worker was told to stop")
        self.limit_running_jobs()
        with CancelScope(shield=True), suppress(*DOWN):
            async with asyncio.timeout(OPERATION_SECONDS):
                await self._give_back_waiting()

    async def run_task(self, msg: StreamMessage) -> None:
        """Run one message, instead of streaq's method.

        streaq's method takes two round trips and some twenty commands for each job, for retries
        and results. This service keeps both in the record, above the engine.
        """
        body = await self._begin(msg)
        if body is None:
            return
        running = self._running_tasks[msg.priority]
        running.add(msg.message_id)
        try:
            outcome = await self._handle(msg.task_id, body)
            if isinstance(outcome, Lost):
                return
            due = ""
            if outcome is None:
                due = PUT_BACK
            elif isinstance(outcome, Retry):
                due = str(now_ms() + round(outcome.after * 1000))
            with CancelScope(shield=True):
                await self._end((msg.priority, msg.message_id, msg.task_id, due))
        finally:
            running.discard(msg.message_id)

    async def _handle(self, job_id: str, body: bytes) -> Outcome | None:
        """Run a job. Return None if the job was cancelled, or if the worker is stopping."""
        if self.stop.is_set():
            return None
        with CancelScope(shield=True) as scope:
            self._cancel_scopes[job_id] = scope
            try:
                return await self.handler(job_id, body)
            finally:
                self._cancel_scopes.pop(job_id, None)
        return None

    async def _begin_all(self, messages: list[StreamMessage]) -> list[bytes | None]:
        keys = [
            key
            for msg in messages
            for key in (
                self.stream_key + msg.priority,
                self.task_key + msg.task_id,
            )
        ]
        ids = [msg.message_id for msg in messages]
        with self.redis.decoding(False):  # a forged body may be anything
            async with asyncio.timeout(OPERATION_SECONDS):
                bodies = await self.redis.eval(_BEGIN, keys, [REDIS_GROUP, self.id, *ids])
        return cast("list[bytes | None]", bodies)

    async def _end_all(self, messages: list[tuple[str, str, str, str]]) -> list[None]:
        keys = [
            key
            for priority, _, task_id, _ in messages
            for key in (
                self.stream_key + priority,
                self.queue_key + priority,
                self.task_key + task_id,
            )
        ]
        arguments = [
            value
            for _, message_id, task_id, due in messages
            for value in (message_id, task_id, due)
        ]
        async with asyncio.timeout(OPERATION_SECONDS):
            await self.redis.eval(_END, keys, [REDIS_GROUP, self.id, now_ms(), *arguments])
        return [None] * len(messages)

    async def renew_idle_timeouts(self, scope: CancelScope) -> None:
        """Keep the running messages, instead of streaq's method.

        streaq's method takes messages back that another worker has taken over in the meantime.

        Args:
            scope: Ends the work when it is cancelled.
        """
        with scope:
            while True:
                await self._renew_running()
                await sleep(self.idle_timeout / 4000)

    async def _renew_running(self) -> None:
        keys: list[str] = []
        running: list[str] = []
        for priority, ids in self._running_tasks.items():
            keys += [self.stream_key + priority] * len(ids)
            running += ids
        await self.redis.eval(_RENEW, keys, [REDIS_GROUP, self.id, *running])

    async def _give_back_waiting(self) -> None:
        """Put the messages back that this worker has read but not begun."""
        for priority in PRIORITIES:
            stream = self.stream_key + priority
            taken = await self.redis.xpending(
                stream,
                REDIS_GROUP,
                start="-",
                end="+",
                count=self.prefetch,
                consumer=self.id,
            )
            ids = {str(entry.identifier) for entry in cast("tuple[StreamPendingExt, ...]", taken)}
            for message_id in ids - self._running_tasks[priority]:
                for entry in await self.redis.xrange(stream, start=message_id, end=message_id):
                    await self._end(
                        (
                            priority,
                            message_id,
                            str(entry.field_values["task_id"]),
                            PUT_BACK,
                        )
                    )

    def limit_running_jobs(self) -> None:
        """Give running jobs the grace period. Then they are cancelled and put back."""
        deadline = current_time() + self.grace_period
        for running in self._cancel_scopes.values():
            running.deadline = min(running.deadline, deadline)


def build_worker(
    url: str,
    queue_name: str,
    concurrency: int,
    grace_period: float,
    handler: Handler | None,
) -> StoppableWorker:
    """Build a worker that runs messages, or a client that only publishes.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
        concurrency: The number of jobs that run at once.
        grace_period: Seconds that running jobs get at the end.
        handler: Runs one message; None for a client.
    """
    worker = StoppableWorker(
        redis_url=url,
        queue_name=queue_name,
        concurrency=concurrency,
        priorities=list(PRIORITIES),  # streaq reverses this list in place
        grace_period=round(grace_period),
        idle_timeout=IDLE_TIMEOUT_SECONDS,
        # The stream timeout is longer than a read of the streams blocks.
        redis_kwargs={
            "stream_timeout": IDLE_TIMEOUT_SECONDS + 5,
            "connect_timeout": OPERATION_SECONDS,
        },
    )
    if handler:
        worker.handler = handler
    return worker
