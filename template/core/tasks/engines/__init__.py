"""The engines: `local`, and the one that was chosen when this service was generated."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import cast

from core.config import Settings, SettingsError
from core.tasks.engine import Engine

AVAILABLE = sorted(module.name for module in iter_modules(__path__))
"""The values of `TASK_ENGINE`: the modules of this package."""

DEFAULT = next((name for name in AVAILABLE if name != "local"), "local")
"""The engine that is used if `TASK_ENGINE` is unset."""


def build_engine(settings: Settings) -> Engine:
    """Build the engine that the settings name.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: This service has no such engine, or the engine lacks a setting.
    """
    return cast(Engine, _load(settings).build(settings))


def find_runner(settings: Settings) -> Callable[[Settings], int] | None:
    """Return the function that runs a worker of the engine, if the engine brings its own worker.

    The function takes the settings, and returns the exit status of the process.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: This service has no such engine.
    """
    return getattr(_load(settings), "run_worker", None)


def find_name(settings: Settings) -> str:
    """Return the name of the engine that the settings choose.

    Args:
        settings: The service's settings.
    """
    return settings.task_engine or DEFAULT


def _load(settings: Settings) -> ModuleType:
    name = find_name(settings)
    if name not in AVAILABLE:
        known = ", ".join(AVAILABLE)
        raise SettingsError(
            f"settings: TASK_ENGINE is one of {known} in this service, not {name!r}"
        )
    return import_module(f"{__name__}.{name}")
