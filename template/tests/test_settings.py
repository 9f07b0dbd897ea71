"""This service's own settings, and how a test changes one."""

import pytest

from app.settings import AppSettings, app_settings
from core.config import SettingsError, read_settings


@pytest.fixture
def francs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices in Swiss francs, in this process and in a worker process that starts after it."""
    monkeypatch.setattr(app_settings, "currency", "CHF")
    monkeypatch.setenv("CURRENCY", "CHF")


def test_a_setting_is_changed_for_one_test(francs):
    assert app_settings.currency == "CHF"
    assert read_settings(AppSettings).currency == "CHF"


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("CURRENCY", "euros")
    with pytest.raises(SettingsError, match="CURRENCY"):
        read_settings(AppSettings)
