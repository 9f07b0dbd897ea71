"""The connection of this process to MongoDB."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from beanie import Document, init_beanie
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, PyMongoError

from core.cancelling import cancel_all
from core.config import Settings, find_address
from core.errors import UserError
from core.logging import get_logger

logger = get_logger(__name__)

RETRY_SECONDS = 1.0
SELECTION_MILLISECONDS = 2000
"""Time that a call waits for a server. A healthy replica set elects a primary in less."""
OPEN_SECONDS = 4.0
"""Time that `open_database` waits for the server before it continues without it."""


_DETAILS = re.compile(
    r" \(configured timeouts[^)]*\)|, Timeout: .*|, full error: .*",
    re.DOTALL,
)
"""The parts of an error that describe all connections, or repeat the server's whole answer."""
REASON_LENGTH = 400  # the keys of a duplicate are at the end of a long message


class DatabaseUnavailable(UserError):
    """The database cannot be reached."""


CONNECTION_ERRORS = (ConnectionFailure, DatabaseUnavailable)
"""The exceptions that are raised while the server cannot be reached."""


def summarize_error(error: Exception) -> str:
    """Return why a server cannot be used, in one short line.

    Args:
        error: An error of PyMongo, or another one.
    """
    return _DETAILS.sub("", str(error))[:REASON_LENGTH]


class Database:
    """The database of one process.

    Args:
        settings: The settings with the server and the database's name.
        documents: The documents to initialise.
        makes_indexes: Whether to create missing indexes.

    Attributes:
        client: The client for the server.
        name: The database's name.
        ready: Set when the documents are initialised and their indexes exist.
    """

    def __init__(
        self,
        settings: Settings,
        documents: Sequence[type[Document]],
        makes_indexes: bool = True,
    ) -> None:
        self.client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
            str(settings.mongodb_url),
            serverSelectionTimeoutMS=SELECTION_MILLISECONDS,
            connectTimeoutMS=SELECTION_MILLISECONDS,
            tz_aware=True,
        )
        self.name = settings.mongodb_database
        self.ready = asyncio.Event()
        self._documents = list(documents)
        self._makes_indexes = makes_indexes
        self._address = find_address(str(settings.mongodb_url))
        self._reason = "the server has not answered yet"

    def require(self) -> None:
        """Check that the documents are initialised.

        Raises:
            DatabaseUnavailable: The server has not been reached since this process started.
        """
        if not self.ready.is_set():
            raise self.unavailable(self._reason)

    def unavailable(self, reason: str) -> DatabaseUnavailable:
        """Return an error that names the server, without its password.

        Args:
            reason: Why the server cannot be used.
        """
        reason = reason.removeprefix(f"{self._address}: ")
        problem = f"MongoDB at {self._address} cannot be used: {reason}"
        return DatabaseUnavailable(f"{problem} (the address is in MONGODB_URL)")

    async def ping(self) -> None:
        """Check that the database can be used now.

        Raises:
            DatabaseUnavailable: The server has not been reached since this process started.
            pymongo.errors.ConnectionFailure: The server cannot be reached now.
        """
        self.require()
        await self.client.admin.command("ping")

    async def connect(self) -> None:
        """Initialise the documents.

        Raises:
            pymongo.errors.PyMongoError: The server cannot be reached, or refused an index.
        """
        await init_beanie(
            database=self.client[self.name],
            document_models=self._documents,
            skip_indexes=not self._makes_indexes,
        )
        self.ready.set()

    async def keep_connecting(self) -> None:
        """Retry `connect` until it succeeds."""
        while not self.ready.is_set():
            try:
                await self.connect()
            except PyMongoError as error:
                self._reason = summarize_error(error)
                logger.warning("database unavailable, trying again", error=self._reason)
                await asyncio.sleep(RETRY_SECONDS)


_database: Database | None = None
"""The database that is open in this process."""


def open_client() -> AsyncMongoClient[dict[str, object]]:
    """Return the client of the open database.

    Raises:
        RuntimeError: No database is open in this process.
    """
    if _database is None:
        hint = "run this inside the service (tests: use the fixture `db`)"
        raise RuntimeError(f"no database is open; {hint}")
    return _database.client


@asynccontextmanager
async def open_database(
    settings: Settings,
    documents: Sequence[type[Document]],
    makes_indexes: bool = True,
) -> AsyncIterator[Database]:
    """Open the database for a block.

    If the server is down, the block starts anyway and the connection is made in the background.

    Args:
        settings: The settings with the server and the database's name.
        documents: The documents to initialise.
        makes_indexes: Whether to create missing indexes.

    Yields:
        The database.
    """
    global _database
    outer = _database
    database = _database = Database(settings, documents, makes_indexes)
    connecting = asyncio.create_task(database.keep_connecting())
    try:
        await asyncio.wait({connecting}, timeout=OPEN_SECONDS)
        if connecting.done():
            connecting.result()
        yield database
    finally:
        await cancel_all([connecting])
        _database = outer
        await database.client.close()
