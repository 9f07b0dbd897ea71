"""MongoDB, through Beanie on PyMongo's async API."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from beanie import Document, init_beanie
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, PyMongoError

from core.config import Settings
from core.errors import UserError
from core.logging import get_logger

logger = get_logger(__name__)

RETRY_SECONDS = 1.0
SELECTION_MILLISECONDS = 2000
"""How long a call waits for a server before it fails; a replica set's election takes less where all is well."""


class DatabaseUnavailable(UserError):
    """The database could not be reached since this process started."""


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


@asynccontextmanager
async def open_database(settings: Settings, documents: Sequence[type[Document]]) -> AsyncIterator[Database]:
    """Open the database for the length of a block; a server that is down is awaited in the background."""
    database = Database(settings, documents)
    connecting = asyncio.create_task(database.keep_connecting())
    try:
        await asyncio.wait({connecting}, timeout=2 * SELECTION_MILLISECONDS / 1000)
        if connecting.done():
            connecting.result()
        yield database
    finally:
        connecting.cancel()
        await database.client.close()
