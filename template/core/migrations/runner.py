"""Applies a migration, or takes it back, together with its record.

Beanie's own runner is not used. It records a migration after its transaction and in two steps, so a
process that is killed in between runs migrations again. If the file of the last migration was
deleted, it runs all of them again. It takes no lock.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

from beanie import init_beanie
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, PyMongoError

from core.database import DatabaseUnavailable, open_client, with_transaction
from core.logging.tracebacks import describe_error
from core.migrations.fields import check_fields
from core.migrations.files import Migration, MigrationError, Steps
from core.models import MigrationModel

ROLLED_BACK = "No change was stored. Correct the migration, and run the command again."
PARTLY = "The migration has no transaction, so some changes may be stored. Run the command again."
TOO_LONG = "A transaction may take 60 seconds. See IN_TRANSACTION in core/docs/migrations.md."

Record: TypeAlias = Callable[[AsyncClientSession], Awaitable[None]]


async def list_applied() -> set[str]:
    """Return the names of the migrations that the database has."""
    cursor = MigrationModel.get_pymongo_collection().find({}, {"_id": True})
    return {record["_id"] async for record in cursor}


async def apply(migration: Migration) -> None:
    """Run `Forward`, and record the migration.

    Args:
        migration: A migration that the database does not have.

    Raises:
        MigrationError: The migration cannot be read, or failed.
    """

    async def record(session: AsyncClientSession) -> None:
        done = MigrationModel(id=migration.name, applied_at=datetime.now(UTC))
        await done.insert(session=session)

    await _run(migration, migration.read("Forward"), record)


async def take_back(migration: Migration) -> None:
    """Run `Backward`, and delete the record of the migration.

    Args:
        migration: A migration that the database has.

    Raises:
        MigrationError: The migration cannot be read, or failed, or the database does not have it.
    """

    async def forget(session: AsyncClientSession) -> None:
        records = MigrationModel.get_pymongo_collection()
        deleted = await records.delete_one({"_id": migration.name}, session=session)
        if not deleted.deleted_count:
            raise MigrationError("this database does not have it, or another process took it back")

    await _run(migration, migration.read("Backward"), forget)


async def _run(migration: Migration, steps: Steps, record: Record) -> None:
    async def run(session: AsyncClientSession) -> None:
        for controller in steps.controllers:
            await check_fields(controller, session)
            await controller.run(session=session)
        # In the same transaction, so a migration and its record are stored together or not at all.
        await record(session)

    try:
        await _open_documents(steps)
        if steps.in_transaction:
            await with_transaction(run)
        else:
            async with open_client().start_session() as session:
                await run(session)
    except (ConnectionFailure, DatabaseUnavailable):
        raise
    except Exception as error:
        hint = ROLLED_BACK if steps.in_transaction else PARTLY
        if isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError"):
            hint = f"{hint} {TOO_LONG}"
        reason = str(error) if isinstance(error, MigrationError) else describe_error(error)
        raise MigrationError(f"{migration.name} failed: {reason}\n{hint}") from error


async def _open_documents(steps: Steps) -> None:
    """Initialise the document classes of a migration, which may differ from `app/models`."""
    database = MigrationModel.get_pymongo_collection().database
    for controller in steps.controllers:
        # One at a time: several of them may have the same name or the same collection.
        for model in controller.models:
            await init_beanie(database=database, document_models=[model])
