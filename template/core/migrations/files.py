"""The files in `app/migrations`, in the form of Beanie's own migrations."""

import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from beanie.migrations.controllers.base import BaseMigrationController

from core.config import ROOT
from core.errors import UserError
from core.logging.tracebacks import describe_error

FOLDER = ROOT / "app" / "migrations"


class MigrationError(UserError):
    """A migration cannot be found, read or run. The message names it and the reason."""


@dataclass(frozen=True)
class Steps:
    """The steps of one direction of a migration.

    Attributes:
        controllers: The functions with Beanie's decorators, in the order of the file.
        in_transaction: Whether all of them run in one transaction.
    """

    controllers: list[BaseMigrationController]
    in_transaction: bool


@dataclass(frozen=True)
class Migration:
    """A file in `app/migrations`.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def name(self) -> str:
        """The file's name without `.py`. Migrations are applied in the order of their names."""
        return self.path.stem

    def read(self, direction: str) -> Steps:
        """Return the steps of the class `Forward` or `Backward`.

        Args:
            direction: The class.

        Raises:
            MigrationError: The file cannot be imported, or it has no such class with steps.
        """
        module = _load(self.path)
        # Not `dir`, as Beanie does: it sorts the functions by name.
        members = vars(getattr(module, direction, object)).values()
        steps = [each for each in members if isinstance(each, BaseMigrationController)]
        if not steps:
            problem = f"{self.path.name} has no class {direction} with a function that has"
            raise MigrationError(f"{problem} one of Beanie's decorators. Nothing was changed.")
        return Steps(steps, getattr(module, "IN_TRANSACTION", True))


def list_migrations() -> list[Migration]:
    """Return the migrations, the oldest first, without files whose name begins with `_`."""
    return [Migration(path) for path in sorted(FOLDER.glob("[!_]*.py"))]


def find_migration(name: str) -> Migration:
    """Return a migration by its name, with or without the time in front of it.

    Args:
        name: Such as `20270131120000_split_names` or `split_names`.

    Raises:
        MigrationError: There is no such file, or there are several.
    """
    wanted = name.removesuffix(".py")
    found = [each for each in list_migrations() if wanted in (each.name, _strip_time(each.name))]
    if not found:
        raise MigrationError(f"no file in app/migrations has the name {name}. Nothing was changed.")
    if len(found) > 1:
        problem = f"several files in app/migrations have the name {name}"
        raise MigrationError(f"{problem}. Add the time in front of it. Nothing was changed.")
    return found[0]


def _strip_time(name: str) -> str:
    return name.partition("_")[2]


def _load(path: Path) -> ModuleType:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    # By its path, because its name begins with a digit.
    spec = spec_from_file_location(f"app.migrations.{path.stem}", path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    # Pydantic and dataclasses look up the types of annotations there.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise MigrationError(f"{path.name}: {describe_error(error)}") from error
    return module
