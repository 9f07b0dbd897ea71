"""Fixtures of all tests of the machinery."""

import pytest

from core.tasks import Worker


@pytest.fixture(autouse=True)
def own_service(monkeypatch) -> None:
    """Load the service of these tests, so their result does not depend on `app/`."""
    monkeypatch.setenv("SERVICE", "core.tests.service:service")


@pytest.fixture
def worker() -> Worker:
    """A worker without tasks."""
    return Worker()
