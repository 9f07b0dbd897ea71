"""The engines: `local`, and the one that was chosen when this service was generated."""

from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from core.config import Settings, SettingsError
from core.tasks.engine import Engine

AVAILABLE = sorted(module.name for module in iter_modules(__path__))
"""The names that `TASK_ENGINE` takes: the modules of this package."""

DEFAULT = next((name for name in AVAILABLE if name != "local"), "local")


def build_engine(settings: Settings) -> Engine:
    """The engine that the settings name.

    Raises:
        SettingsError: It is not one of this service's, or lacks a setting.
    """
    name = settings.task_engine or DEFAULT
    if name not in AVAILABLE:
        raise SettingsError(f"settings: TASK_ENGINE is one of {', '.join(AVAILABLE)} in this service, not {name!r}")
    return cast(Engine, import_module(f"{__name__}.{name}").build(settings))
