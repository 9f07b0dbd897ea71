"""The connection that sends tickets through Celery. Its calls block, so a thread makes them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kombu.exceptions import KombuError

from core.config import Settings
from core.tasks.broker.broker import Ticket
from core.tasks.engine import Condition
from core.tasks.engines.celery.address import Address
from core.tasks.engines.celery.application import OPERATION_SECONDS, TICKET, make_app
from core.tasks.errors import REFUSALS, QueueRefuses, QueueUnavailable
from core.tasks.queue_server import read_condition

RABBITMQ_RANKS = {"high": 9, "normal": 4, "low": 0}
"""RabbitMQ 4 prefers messages with a rank of 5 or more. Quorum queues of version 3 ignore ranks."""
REDIS_RANKS = {"high": 0, "normal": 1, "low": 2}
"""Each rank is a list in Redis. Workers read the list of the lowest rank first."""
NO_QUEUE = "404"
"""AMQP's code for a queue that does not exist yet."""


class TicketChannel:
    """A connection to the broker. After an error, it cannot be used again.

    Args:
        settings: The service's settings.
        address: The broker.

    Raises:
        QueueUnavailable: The broker cannot be reached.
    """

    def __init__(self, settings: Settings, address: Address) -> None:
        self._place = address.place
        self._is_rabbitmq = address.is_rabbitmq
        self._ranks = RABBITMQ_RANKS if address.is_rabbitmq else REDIS_RANKS
        self._app = make_app(settings, address)
        self._queue_name = settings.queue_name
        options: dict[str, Any] = {}
        if address.is_rabbitmq:
            options |= {"on_blocked": self._refuse_blocked}
            options |= {"read_timeout": OPERATION_SECONDS, "write_timeout": OPERATION_SECONDS}
        self._connection = self._app.connection_for_write(transport_options=options)
        self._errors = (
            *self._connection.connection_errors,
            *self._connection.channel_errors,
            KombuError,
        )
        self._sent = 0
        self._unconfirmed: set[int] = set()
        with self._explaining():
            self._connection.connect()
            self._channel = self._connection.channel()
            self._producer = self._app.amqp.Producer(self._channel)
            if self._is_rabbitmq:
                self._channel.confirm_select()
                self._channel.events["basic_ack"].add(self._confirm)
                self._channel.events["basic_nack"].add(self._refuse)

    def close(self) -> None:
        """Close the connection."""
        with suppress(*self._errors):
            self._connection.release()

    def send(self, tickets: Sequence[Ticket]) -> None:
        """Send tickets, and return when the broker has all of them.

        Args:
            tickets: The tickets.

        Raises:
            QueueUnavailable: The broker cannot be reached, or takes no tickets.
        """
        with self._explaining(), self._producer.batch():  # for RabbitMQ, this does nothing
            for ticket in tickets:
                self._publish(ticket.task, ticket.job_id, self._ranks[ticket.priority])
        self._wait_until_confirmed()

    def count(self) -> int:
        """Return the number of tickets that no worker has taken yet."""
        # An error closes a channel of RabbitMQ, so each call opens its own.
        with self._explaining(), self._connection.channel() as channel:
            try:
                # On Redis, kombu's passive declaration looks for keys without our prefix.
                queue = channel.queue_declare(self._queue_name, passive=self._is_rabbitmq)
                return int(queue.message_count)
            except self._connection.channel_errors as error:
                if str(getattr(error, "reply_code", "")) != NO_QUEUE:
                    raise
                return 0

    def check(self) -> Condition:
        """Check with a queue of one message that the broker takes messages; return its state."""
        name = f"{self._queue_name}.check"
        with self._explaining():
            if self._is_rabbitmq:
                arguments = {"x-max-length": 1, "x-expires": 3_600_000}
                self._channel.queue_declare(name, auto_delete=False, arguments=arguments)
            self._sent += 1
            self._unconfirmed.add(self._sent)
            self._producer.publish("", exchange="", routing_key=name)
            if not self._is_rabbitmq:
                self._channel.queue_purge(name)
        self._wait_until_confirmed()
        return self._describe_rabbitmq() if self._is_rabbitmq else self._describe_redis()

    def _publish(self, task: str, job_id: str, rank: int) -> None:
        self._sent += 1
        self._unconfirmed.add(self._sent)
        self._app.send_task(
            TICKET,
            shadow=task,
            task_id=job_id,
            producer=self._producer,
            priority=rank,
            ignore_result=True,
            retry=False,
        )

    def _wait_until_confirmed(self) -> None:
        with self._explaining():
            while self._is_rabbitmq and self._unconfirmed:
                self._connection.drain_events(timeout=OPERATION_SECONDS)
        self._unconfirmed.clear()

    def _confirm(self, number: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {each for each in self._unconfirmed if each > number}
        self._unconfirmed.discard(number)

    def _refuse(self, number: int, multiple: bool) -> None:
        raise QueueRefuses(self._place, f"is full: its queue {self._queue_name} takes no messages")

    def _refuse_blocked(self, reason: str) -> None:
        raise QueueRefuses(self._place, "is full: it has too little free memory or disk space")

    def _describe_rabbitmq(self) -> Condition:
        server: dict[str, str] = self._connection.connection.server_properties
        return Condition(server="{product} {version}".format(**server))

    def _describe_redis(self) -> Condition:
        info: dict[str, Any] = {}
        with suppress(*self._errors):  # a managed server may forbid the command
            info = self._channel.client.info()
        return read_condition(info, time.time())

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn errors of the broker in a block into `QueueUnavailable`, which names the broker."""
        try:
            yield
        except self._errors as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> QueueUnavailable:
        cause = error.__cause__ or error
        if isinstance(cause, TimeoutError):
            return QueueUnavailable(f"{self._place} did not answer within {OPERATION_SECONDS:g} s")
        code = getattr(cause, "status_code", None) or str(cause).partition(" ")[0]
        if code in REFUSALS:
            return QueueRefuses(self._place, REFUSALS[code])
        reason = str(cause).partition("\n")[0] or type(cause).__name__
        return QueueUnavailable(f"{self._place} cannot be used: {reason}")
