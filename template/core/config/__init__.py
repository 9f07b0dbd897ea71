"""Settings, read from the environment and `.env`, and checked before a process starts."""

from core.config.base import BaseServiceSettings, SettingsError, read_settings
from core.config.env_file import ROOT
from core.config.settings import Settings, get_settings
from core.config.settings import find_address as find_address
from core.config.settings import load_settings as load_settings
from core.config.settings import read_pyproject as read_pyproject
from core.config.settings import read_sender as read_sender

__all__ = [
    "ROOT",
    "BaseServiceSettings",
    "Settings",
    "SettingsError",
    "get_settings",
    "read_settings",
]
