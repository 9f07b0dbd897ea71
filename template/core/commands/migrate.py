"""`just migrate`: applies the migrations in `app/migrations`, or takes them back."""

import asyncio
import signal
import sys
from collections.abc import Sequence

from pymongo.errors import ConnectionFailure

from core.config import Settings
from core.database import open_database, summarize_error
from core.logging import configure_logging
from core.migrations import (
    Migration,
    MigrationError,
    apply,
    find_migration,
    hold_lock,
    list_applied,
    list_migrations,
    take_back,
)
from core.models import DOCUMENTS

EXIT_PENDING = 1
PENDING = "{number} to apply. Run `just migrate`."
INTERRUPTED = "Interrupted. `just migrate --check` lists what is left to apply."
WAITING = "Another process is migrating. Waiting until it has ended."


def run_migrate(settings: Settings, only_check: bool, back: str | None) -> int:
    """Run the command.

    Args:
        settings: The service's settings.
        only_check: Whether to change nothing, and list the migrations to apply.
        back: The oldest migration to take back, or None to apply migrations.

    Returns:
        The exit status. 1 says that `--check` found migrations to apply.

    Raises:
        UserError: A migration failed; the message says why.
    """
    configure_logging(settings, "command", is_command=True)
    return asyncio.run(_run(settings, only_check, back))


async def _run(settings: Settings, only_check: bool, back: str | None) -> int:
    # The end of a container: it frees the lock, as Ctrl-C does.
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    # Not the documents of `app`: their indexes may need the migrations first.
    async with open_database(settings, DOCUMENTS) as database:
        database.require()
        try:
            if only_check:
                return await check()
            async with hold_lock(lambda: print(WAITING, file=sys.stderr)):
                await (go_back(back) if back else go_forward())
        except asyncio.CancelledError:
            print(INTERRUPTED, file=sys.stderr)
            raise
        except ConnectionFailure as error:
            raise database.unavailable(summarize_error(error)) from error
    return 0


async def check() -> int:
    """Print the migrations to apply. Return the exit status: 1 if there are any."""
    applied = await list_applied()
    pending = [each.name for each in list_migrations() if each.name not in applied]
    for name in pending:
        print(name)
    if pending:
        print(PENDING.format(number=len(pending)), file=sys.stderr)
        return EXIT_PENDING
    return 0


async def go_forward() -> None:
    """Apply the migrations that the database does not have, the oldest first.

    Raises:
        MigrationError: One of them cannot be read, or failed.
    """
    applied = await list_applied()
    pending = [each for each in list_migrations() if each.name not in applied]
    _check_all(pending, "Forward")
    for migration in pending:
        await apply(migration)
        print(f"{migration.name} applied", flush=True)
    if not pending:
        print("Nothing to migrate.")


async def go_back(name: str) -> None:
    """Take back a migration, and before it all newer ones.

    Args:
        name: The migration's name, with or without the time in front of it.

    Raises:
        MigrationError: One of these migrations cannot be read, or failed.
    """
    target = find_migration(name)
    applied = await list_applied()
    if target.name not in applied:
        print(f"{target.name} is not applied. Nothing was changed.")
        return
    newer = [each for each in list_migrations() if each.name >= target.name]
    newer = [each for each in reversed(newer) if each.name in applied]
    deleted = {each for each in applied if each > target.name} - {each.name for each in newer}
    if deleted:
        problem = f"{min(deleted)} is newer and applied, but its file is not in app/migrations"
        raise MigrationError(f"{problem}. Bring the file back first. Nothing was changed.")
    _check_all(newer, "Backward")
    for migration in newer:
        await take_back(migration)
        print(f"{migration.name} taken back", flush=True)


def _check_all(migrations: Sequence[Migration], direction: str) -> None:
    """Find a file that cannot be read before anything is changed."""
    for migration in migrations:
        migration.read(direction)
