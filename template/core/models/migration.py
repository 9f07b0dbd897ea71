from datetime import datetime

from beanie import Document


class MigrationModel(Document):
    """A migration that this database has.

    Attributes:
        id: The name of its file in `app/migrations`, without `.py`.
        applied_at: When it was applied.
    """

    id: str  # type: ignore[assignment]  # a name from the code
    applied_at: datetime

    class Settings:
        name = "migrations"


class MigrationLockModel(Document):
    """The lock of `just migrate`. There is one document.

    Attributes:
        id: The lock's name.
        owner: The process that holds the lock, or held it last.
        until: The holder extends this time. After it, another process may take the lock.
    """

    id: str  # type: ignore[assignment]  # not an ObjectId
    owner: str
    until: datetime

    class Settings:
        name = "migration_lock"
