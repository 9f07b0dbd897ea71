"""Migrations: one-off changes of documents, in `app/migrations`, with Beanie's decorators."""

from core.migrations.files import Migration as Migration
from core.migrations.files import MigrationError as MigrationError
from core.migrations.files import find_migration as find_migration
from core.migrations.files import list_migrations as list_migrations
from core.migrations.lock import hold_lock as hold_lock
from core.migrations.runner import apply as apply
from core.migrations.runner import list_applied as list_applied
from core.migrations.runner import take_back as take_back
