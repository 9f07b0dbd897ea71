"""MongoDB, through Beanie on PyMongo's async API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar

from beanie import Document, init_beanie
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import (
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from core.config import Settings
from core.errors import UserError
from core.logging import get_logger

__all__ = ["DatabaseUnavailable", "TransactionsUnsupported", "current_session", "with_transaction"]

R = TypeVar("R")

logger = get_logger(__name__)

ILLEGAL_OPERATION = 20
"""MongoDB's code for a transaction on a server that is no replica set."""

RETRY_SECONDS = 1.0
SELECTION_MILLISECONDS = 2000
"""How long a call waits for a server before it fails; a replica set's election takes less where all is well."""


class DatabaseUnavailable(UserError):
    """The database cannot be reached."""


class TransactionsUnsupported(UserError):
    """The database takes no transactions."""


DOWN = (ConnectionFailure, DatabaseUnavailable)
"""What is raised while the server cannot be reached."""


class Database:
    """The connection of one process. It is ready once the documents' indexes were created."""

    def __init__(self, settings: Settings, documents: Sequence[type[Document]]) -> None:
        url = str(settings.mongodb_url)
        self.client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
            url,
            serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
            connectTimeoutMS=SELECTION_MILLISECONDS,
            tz_aware=True,
        )
        self.name = settings.mongodb_database
        self.ready = asyncio.Event()
        self._documents = list(documents)

    def require(self) -> None:
        """Do nothing where the documents can be used.

        Raises:
            DatabaseUnavailable: The server was not there yet, so that the documents are not initialised.
        """
        if not self.ready.is_set():
            raise DatabaseUnavailable("the database cannot be reached since the start")

    async def ping(self) -> None:
        """Raise one of `DOWN` where the database cannot be used now."""
        self.require()
        await self.client.admin.command("ping")

    async def connect(self) -> None:
        """Initialise the documents; once, without waiting for a server that is down."""
        await init_beanie(database=self.client[self.name], document_models=self._documents)
        self.ready.set()

    async def keep_connecting(self) -> None:
        """Try `connect` until it succeeds."""
        while not self.ready.is_set():
            try:
                await self.connect()
            except PyMongoError as error:
                logger.warning("database cannot be used, trying again", error=str(error)[:200])
                await asyncio.sleep(RETRY_SECONDS)


_database: Database | None = None
"""The database that is open in this process."""


class Transaction:
    """A transaction that runs.

    Attributes:
        session: Of PyMongo; pass it to everything that belongs to the transaction.
    """

    def __init__(self, session: AsyncClientSession) -> None:
        self.session = session
        self.callbacks: list[Callable[[], Awaitable[None]]] = []

    def on_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have something done once the transaction has committed; the same thing once."""
        if callback not in self.callbacks:
            self.callbacks.append(callback)


_transaction: ContextVar[Transaction | None] = ContextVar("transaction", default=None)


def current_transaction() -> Transaction | None:
    """The transaction that this code runs in, or None."""
    transaction = _transaction.get()
    # A background task that was started inside may outlive it.
    return transaction if transaction and transaction.session.in_transaction else None


def current_session() -> AsyncClientSession | None:
    """The session to pass to what belongs to the transaction that this code runs in, or None."""
    transaction = current_transaction()
    return transaction.session if transaction else None


async def with_transaction(function: Callable[[AsyncClientSession], Coroutine[Any, Any, R]]) -> R:
    """Run a function in a MongoDB transaction. Jobs that it enqueues are delivered if and only if it commits.

    What belongs to the transaction takes the session, as in `user.insert(session=session)`; `enqueue` finds it by
    itself. As PyMongo's `with_transaction` does, it runs the function again after a conflict with another transaction,
    for up to two minutes, so the function should do nothing else that must happen once.

    Args:
        function: Takes the session. Inside another transaction it becomes a part of that one.

    Returns:
        What the function returns.

    Raises:
        DatabaseUnavailable: The server cannot be reached.
        TransactionsUnsupported: The server is no replica set.
        Exception: What the function raises; then nothing of it has happened.
    """
    if outer := current_transaction():
        return await function(outer.session)
    async with _open_client().start_session() as session:
        transaction = Transaction(session)

        async def attempt(session: AsyncClientSession) -> R:
            transaction.callbacks.clear()
            try:
                return await function(session)
            except ServerSelectionTimeoutError as error:
                # PyMongo would take it for a conflict, and try for two minutes.
                raise DatabaseUnavailable(f"the database cannot be reached: {error}") from error

        token = _transaction.set(transaction)
        try:
            value = await session.with_transaction(attempt)
        except OperationFailure as error:
            if error.code == ILLEGAL_OPERATION:
                reason = "transactions need a MongoDB replica set; one of a single node will do"
                raise TransactionsUnsupported(reason) from error
            raise
        finally:
            _transaction.reset(token)
    for callback in transaction.callbacks:
        await callback()
    return value


def _open_client() -> AsyncMongoClient[dict[str, object]]:
    if _database is None:
        raise RuntimeError(
            "no database is open; run this inside the service (tests: use the fixture `db`)"
        )
    return _database.client


@asynccontextmanager
async def open_database(
    settings: Settings, documents: Sequence[type[Document]]
) -> AsyncIterator[Database]:
    """Open the database for the length of a block; a server that is down is awaited in the background."""
    global _database
    database = Database(settings, documents)
    _database, outer = database, _database
    connecting = asyncio.create_task(database.keep_connecting())
    try:
        await asyncio.wait({connecting}, timeout=2 * SELECTION_MILLISECONDS / 1000)
        if connecting.done():
            connecting.result()
        yield database
    finally:
        connecting.cancel()
        _database = outer
        await database.client.close()


def make_query(
    time_field: str, since: datetime | None, until: datetime | None, **values: Any
) -> dict[str, Any]:
    """Make a MongoDB query.

    Args:
        time_field: The field that `since` and `until` limit.
        since: The earliest time, included; no limit if None.
        until: The latest time, not included; no limit if None.
        **values: The values that other fields must have; a field whose value is None is not queried.
    """
    query = {name: value for name, value in values.items() if value is not None}
    limits = {"$gte": since, "$lt": until}
    period = {operator: limit for operator, limit in limits.items() if limit is not None}
    if period:
        query[time_field] = period
    return query
