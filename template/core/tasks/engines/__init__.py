"""The engines: `local`, and the one that was chosen when this service was generated."""

from importlib import import_module
from pkgutil import iter_modules
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
    name = settings.task_engine or DEFAULT
    if name not in AVAILABLE:
        known = ", ".join(AVAILABLE)
        raise SettingsError(
            f"settings: TASK_ENGINE is one of {known} in this service, not {name!r}"
        )
    module = import_module(f"{__name__}.{name}")
    return cast(Engine, module.build(settings))
