"""The streaq worker of this service: one handler runs every message."""

import asyncio
import math
from contextlib import suppress
from typing import Any

import streaq
from anyio import (
    CancelScope,
    create_memory_object_stream,
    create_task_group,
    current_time,
    sleep,
)
from streaq.constants import REDIS_GROUP
from streaq.types import StreamMessage

from core.logging import get_logger
from core.tasks.engine import Handler
from core.tasks.engines.streaq.batch import Batch
from core.tasks.engines.streaq.client import EVEN_IF_FULL, OPERATION_SECONDS, Client, Word
from core.tasks.errors import QueueUnavailable
from core.tasks.outcome import Lost, Outcome, Retry

logger = get_logger(__name__)

IDLE_TIMEOUT_SECONDS = 20
"""After this time another worker takes the jobs of a killed one. streaq's default is 60 s."""
RENEW_SECONDS = 5.0
"""The pause between two signs of life of a running job."""
MOVE_SECONDS = 0.5
"""The pause between two checks for messages that are due, or whose worker was killed."""
MOVE_BATCH = 1000
BLOCK_SECONDS = 2.0
"""How long one call waits for new messages."""
RECONNECT_SECONDS = 0.5
PUT_BACK = "again"
"""Used in place of a delay: the message goes to another worker now."""

# Returns the body of each message; false if another worker has it or its job has left the queue.
_BEGIN = f"""{EVEN_IF_FULL}
local bodies = {{}}
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

# Ends the messages that this worker still has. XACK alone would also end another worker's messages.
# A message that is put back becomes a new entry: an old one would wake no other worker.
_END = f"""{EVEN_IF_FULL}
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 1, #KEYS / 3 do
  local stream, delayed, task = KEYS[3 * at - 2], KEYS[3 * at - 1], KEYS[3 * at]
  local id, task_id, delay = ARGV[3 * at], ARGV[3 * at + 1], ARGV[3 * at + 2]
  if #redis.call('xpending', stream, ARGV[1], id, id, 1, ARGV[2]) > 0 then
    redis.call('xack', stream, ARGV[1], id)
    redis.call('xdel', stream, id)
    if delay == '{PUT_BACK}' then
      redis.call('xadd', stream, '*', 'task_id', task_id)
    elseif delay == '' then
      redis.call('del', task)
    else
      redis.call('zadd', delayed, now + delay, task_id)
    end
  end
end
"""

# Renews the messages that this worker still has. Another worker may have taken one after a pause.
_RENEW = f"""{EVEN_IF_FULL}
for at, stream in ipairs(KEYS) do
  local id = ARGV[at + 2]
  if #redis.call('xpending', stream, ARGV[1], id, id, 1, ARGV[2]) > 0 then
    redis.call('xclaim', stream, ARGV[1], ARGV[2], 0, id, 'justid')
  end
end
"""

# Moves messages that are due, and idle ones of other workers, into the streams. The server's clock
# decides, not the workers' clocks. Returns whether more of them may be left.
_MOVE = f"""{EVEN_IF_FULL}
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit, is_full, running = tonumber(ARGV[2]), false, {{}}
for at = 5, #ARGV do running[ARGV[at]] = true end
for at = 1, #KEYS, 2 do
  local stream, delayed = KEYS[at], KEYS[at + 1]
  local due = redis.call('zrange', delayed, '-inf', now, 'byscore', 'limit', 0, limit)
  for _, task_id in ipairs(due) do redis.call('xadd', stream, '*', 'task_id', task_id) end
  if #due > 0 then redis.call('zrem', delayed, unpack(due)) end
  local groups = redis.pcall('xinfo', 'groups', stream)
  if groups.err or #groups == 0 then
    redis.call('xgroup', 'create', stream, ARGV[1], '0', 'mkstream')
  end
  local options = {{'idle', ARGV[3], '-', '+', limit, ARGV[4]}}
  local idle = redis.call('xpending', stream, ARGV[1], unpack(options))
  for _, entry in ipairs(idle) do
    local id = entry[1]
    if not running[id] then
      local found = redis.call('xrange', stream, id, id)[1]
      redis.call('xack', stream, ARGV[1], id)
      redis.call('xdel', stream, id)
      if found then redis.call('xadd', stream, '*', 'task_id', found[2][2]) end
    end
  end
  is_full = is_full or #due == limit or #idle == limit
end
return is_full
"""


class StoppableWorker(streaq.Worker[None]):
    """A streaq worker that stops when an event is set, and leaves signals to the process.

    It uses streaq's loop that reads messages, and the loops that run them. It replaces the methods
    that talk to the server, because streaq's functions do not run on a full server and trust the
    clocks of the workers.

    Args:
        client: The client of the server.
        handler: Runs one message.
        stop: Set it to stop the worker.
        options: The options of streaq.
    """

    def __init__(
        self,
        client: Client,
        handler: Handler,
        stop: asyncio.Event,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._client = client
        self._handler = handler
        self._stop = stop
        self._is_connected = False
        self._outage = ""
        self._claiming = asyncio.Lock()
        self._begin = Batch(self._begin_all)
        self._end = Batch(self._end_all)

    @property
    def takes_jobs(self) -> bool:
        """Whether it reads messages."""
        return self._is_connected and not self._stop.is_set()

    async def run(self) -> None:
        """Take and run messages until the event is set, then wait for the running ones."""
        with suppress(QueueUnavailable):
            await self._move()  # creates the consumer groups
        send, receive = create_memory_object_stream[StreamMessage](math.inf)
        renewing = CancelScope(shield=True)
        async with create_task_group() as group:
            scope = group.cancel_scope
            group.start_soon(self._wait_for_stop, scope)
            group.start_soon(self.renew_idle_timeouts, renewing)
            limiter = await group.start(self.run_consumers, receive, renewing, scope)
            group.start_soon(self.schedule_delayed_tasks)
            group.start_soon(self.producer, send, limiter, scope)
        with suppress(QueueUnavailable):
            await self._give_back()  # the server may have sent more to the connection that ended

    async def _wait_for_stop(self, scope: CancelScope) -> None:
        await self._stop.wait()
        scope.cancel("the worker was told to stop")
        self._limit_running_jobs()
        with CancelScope(shield=True), suppress(QueueUnavailable):
            await self._give_back()

    async def _give_back(self) -> None:
        """Put back the messages that this worker was given and has not begun."""
        async with self._claiming:
            running = [message_id for _, message_id in self._list_running()]
            await self._move(0, self.id, *running)

    def _limit_running_jobs(self) -> None:
        """Give running jobs the grace period. Then they are cancelled and put back."""
        deadline = current_time() + self.grace_period
        for running in self._cancel_scopes.values():
            running.deadline = min(running.deadline, deadline)

    async def _read_streams_legacy(self, count: int, block: bool = False) -> Any:
        """Return messages, as streaq's method does. During an outage, wait and return none."""
        try:
            if self._outage:
                await self._give_back()  # the reply with these messages may have been lost
            entries = await self._read(count, block)
        except QueueUnavailable as error:
            self._note_outage(str(error))
            await sleep(RECONNECT_SECONDS)
            return {}
        self._note_outage("")
        return entries

    async def _read(self, count: int, block: bool) -> dict[str, list[Any]]:
        """Return messages by stream, in the form that streaq expects."""
        seconds = BLOCK_SECONDS if block else 0
        groups: list[dict[Any, Any]] = [{stream: ">"} for stream in self._streams]
        if block:
            groups = [{**self._streams}]
        entries: dict[str, list[Any]] = {}
        # Messages of a high priority leave fewer free slots for the others.
        for streams in groups:
            async with self._client.open(OPERATION_SECONDS + seconds) as redis:
                found: Any = await redis.xreadgroup(
                    REDIS_GROUP,
                    self.id,
                    streams,
                    count=1 if block else count,
                    block=round(seconds * 1000) or None,
                )
            for stream, messages in found:
                entries[stream.decode()] = [_read_entry(*message) for message in messages]
                count -= len(messages)
            if count <= 0:
                break
        return entries

    def _note_outage(self, problem: str) -> None:
        """Remember whether the server works, and log each outage once."""
        self._is_connected = not problem
        if problem and not self._outage:
            logger.warning("queue is down, trying again", error=problem)
        self._outage = problem

    async def schedule_delayed_tasks(self) -> None:
        """Move messages into the streams. This replaces streaq's method."""
        while True:
            try:
                is_full = await self._move()
            except QueueUnavailable as error:
                self._note_outage(str(error))
                # After an outage, the workers first renew their messages, which all seem idle.
                is_full = False
                await sleep(RENEW_SECONDS)
            if not is_full:
                await sleep(MOVE_SECONDS)

    async def _move(self, *idle: Word) -> bool:
        """Run `_MOVE`.

        Args:
            idle: The idle time, the consumer, and the messages that must not move. By default, all
                messages of killed workers move.
        """
        places = [
            place + priority
            for priority in self.priorities
            for place in (self.stream_key, self.queue_key)
        ]
        words = [REDIS_GROUP, MOVE_BATCH, *(idle or [IDLE_TIMEOUT_SECONDS * 1000])]
        return bool(await self._client.run(_MOVE, places, words))

    async def renew_idle_timeouts(self, scope: CancelScope) -> None:
        """Show that the running jobs are alive. This replaces streaq's method.

        Args:
            scope: Ends the method when it is cancelled.
        """
        with scope:
            while True:
                try:
                    await self._renew_running()
                except QueueUnavailable as error:
                    self._note_outage(str(error))
                await sleep(RENEW_SECONDS)

    async def _renew_running(self) -> None:
        running = self._list_running()
        if not running:
            return
        streams = [stream for stream, _ in running]
        words = [REDIS_GROUP, self.id, *(message_id for _, message_id in running)]
        await self._client.run(_RENEW, streams, words)

    def _list_running(self) -> list[tuple[str, str]]:
        """Return the stream and the message of each running job."""
        return [
            (self.stream_key + priority, message_id)
            for priority, running in self._running_tasks.items()
            for message_id in running
        ]

    async def run_task(self, msg: StreamMessage) -> None:
        """Run one message. This replaces streaq's method.

        streaq's method takes two round trips and some twenty commands for each job, for retries
        and results. This service keeps both in the record, above the engine.

        Args:
            msg: The message.
        """
        running = self._running_tasks[msg.priority]
        running.add(msg.message_id)
        try:
            with CancelScope(shield=True):
                body = await self._begin_when_up(msg)
            if body is None:
                return
            outcome = await self._handle(msg.task_id, body)
            if isinstance(outcome, Lost):
                return
            delay = ""
            if outcome is None:
                delay = PUT_BACK
            elif isinstance(outcome, Retry):
                delay = str(round(outcome.after * 1000))
            # In an outage, a worker gets the message again after the idle timeout.
            with CancelScope(shield=True), suppress(QueueUnavailable):
                await self._end((msg.priority, msg.message_id, msg.task_id, delay))
        finally:
            running.discard(msg.message_id)

    async def _begin_when_up(self, msg: StreamMessage) -> bytes | None:
        while not self._stop.is_set():
            try:
                return await self._begin(msg)
            except QueueUnavailable as error:
                self._note_outage(str(error))
            await sleep(RECONNECT_SECONDS)
        return None

    async def _handle(self, job_id: str, body: bytes) -> Outcome | None:
        """Run a job. Return None if the job was cancelled, or if the worker is stopping."""
        if self._stop.is_set():
            return None
        with CancelScope(shield=True) as scope:
            self._cancel_scopes[job_id] = scope
            try:
                return await self._handler(job_id, body)
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
        bodies: list[bytes | None]
        # A message that begins now must not be given back by a list that does not have it.
        async with self._claiming:
            bodies = await self._client.run(_BEGIN, keys, [REDIS_GROUP, self.id, *ids])
        return bodies

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
        words = [word for _, *ended in messages for word in ended]
        await self._client.run(_END, keys, [REDIS_GROUP, self.id, *words])
        return [None] * len(messages)


def _read_entry(message_id: bytes, fields: dict[bytes, bytes]) -> tuple[str, Any, int, int]:
    """Return an entry in the form that streaq expects.

    An entry without an id gets an empty one. No job has it, so the entry is removed.
    """
    task_id = fields.get(b"task_id", b"").decode(errors="replace")
    if not task_id:
        logger.error("message without an id, removed from the queue", fields=str(fields)[:200])
    return message_id.decode(), {"task_id": task_id}, 0, 0
