"""Settings that name no running server."""

from collections.abc import Iterator

import pytest

from core.config import Settings, get_settings


@pytest.fixture
def settings(monkeypatch) -> Iterator[Settings]:
    """The settings of this test. Nothing listens where they say that MongoDB is."""
    values = {
        "ENVIRONMENT": "test",
        "SECRET_KEY": "x" * 32,
        "MONGODB_URL": "mongodb://127.0.0.1:1",
        "TASK_ENGINE": "local",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()
