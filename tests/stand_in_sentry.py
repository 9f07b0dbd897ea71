"""A stand-in for the package `sentry_sdk`, because no service of the tests may report anything."""

from typing import Any


class Scope:
    """The scope of a request. The middleware of correlation ids sets a tag in it."""

    def set_tag(self, key: str, value: str) -> None:
        """Do nothing."""


def get_isolation_scope() -> Scope:
    """Return a scope. The middleware calls this for each request if `sentry_sdk` is installed."""
    return Scope()


def capture_event(event: dict[str, Any]) -> None:
    """Refuse an event. A test replaces this function."""
    raise AssertionError(f"an event would have been sent: {event}")
