"""MongoDB transactions, and the current transaction."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from core.database.connection import (
    DatabaseUnavailable,
    open_client,
    summarize_error,
)
from core.errors import UserError

R = TypeVar("R")

ILLEGAL_OPERATION = 20
"""MongoDB's error code for a transaction on a server without a replica set."""


class TransactionsUnsupported(UserError):
    """The database does not support transactions."""


class Transaction:
    """A running transaction.

    Attributes:
        session: The PyMongo session. Every operation of the transaction takes it.
    """

    def __init__(self, session: AsyncClientSession) -> None:
        self.session = session
        self._callbacks: list[Callable[[], Awaitable[None]]] = []

    def on_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call a function after the commit. A callback that is added twice is called once.

        Args:
            callback: A coroutine function without arguments.
        """
        if callback not in self._callbacks:
            self._callbacks.append(callback)

    async def run(
        self,
        function: Callable[[AsyncClientSession], Coroutine[Any, Any, R]],
    ) -> R:
        """Run a function in this transaction, commit, and call the callbacks.

        Args:
            function: A coroutine function that takes the session.
        """

        async def attempt(session: AsyncClientSession) -> R:
            self._callbacks.clear()
            try:
                return await function(session)
            except ServerSelectionTimeoutError as error:
                # PyMongo would treat this error as a conflict, and retry for two minutes.
                problem = f"the database cannot be reached: {summarize_error(error)}"
                raise DatabaseUnavailable(problem) from error

        with _made_current(self), _refusal_explained():
            value = await self.session.with_transaction(attempt)
        for callback in self._callbacks:
            await callback()
        return value


_transaction: ContextVar[Transaction | None] = ContextVar("transaction", default=None)


@contextmanager
def _made_current(transaction: Transaction) -> Iterator[None]:
    token = _transaction.set(transaction)
    try:
        yield
    finally:
        _transaction.reset(token)


@contextmanager
def _refusal_explained() -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        if error.code != ILLEGAL_OPERATION:
            raise
        raise TransactionsUnsupported(
            "transactions need a MongoDB replica set; a replica set of one node is enough"
        ) from error


def current_transaction() -> Transaction | None:
    """Return the transaction that this code runs in, or None."""
    transaction = _transaction.get()
    # A background task that started in a transaction may outlive it.
    if transaction and transaction.session.in_transaction:
        return transaction
    return None


def current_session() -> AsyncClientSession | None:
    """Return the session of the transaction that this code runs in, or None."""
    transaction = current_transaction()
    return transaction.session if transaction else None


async def with_transaction(
    function: Callable[[AsyncClientSession], Coroutine[Any, Any, R]],
) -> R:
    """Run a function in a MongoDB transaction. Its jobs are delivered if and only if it commits.

    Pass the session to every operation of the transaction, as in `user.insert(session=session)`.
    `enqueue` needs no session. After a conflict with another transaction the function runs again,
    for up to two minutes, as in PyMongo's `with_transaction`. It should have no other effects.

    Args:
        function: A coroutine function that takes the session. Inside another transaction the
            function joins it.

    Returns:
        The function's return value.

    Raises:
        DatabaseUnavailable: The server cannot be reached.
        TransactionsUnsupported: The server is not part of a replica set.
        Exception: Any exception of the function. The transaction is then rolled back.
    """
    outer = current_transaction()
    if outer:
        return await function(outer.session)
    async with open_client().start_session() as session:
        return await Transaction(session).run(function)
