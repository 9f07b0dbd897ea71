"""The context of running code: its correlation id and its actor, the user it runs for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from asgi_correlation_id import correlation_id as _correlation_id

__all__ = ["TaskContext"]

_actor: ContextVar[str | None] = ContextVar("actor", default=None)


class TaskContext:
    """The correlation id and the actor of the running code.

    Every HTTP request, job and background task sets them. The code that it calls shares them.
    """

    @staticmethod
    def get_correlation_id() -> str | None:
        """Return the current correlation id, or None outside a request, job or background task."""
        return _correlation_id.get()

    @staticmethod
    def get_actor() -> str | None:
        """Return the id of the user the code runs for, or None."""
        return _actor.get()

    @staticmethod
    def set_actor(user_id: str | None) -> None:
        """Set the user that the rest of this request or job runs for.

        Args:
            user_id: The user's id, or None for nobody.
        """
        _actor.set(user_id)

    @staticmethod
    def set(correlation_id: str, actor: str | None) -> None:
        """Set both for the rest of this asyncio task or thread.

        Args:
            correlation_id: The correlation id.
            actor: The user's id, or None for nobody.
        """
        _correlation_id.set(correlation_id)
        _actor.set(actor)

    @staticmethod
    @contextmanager
    def use(correlation_id: str | None = None, actor: str | None = None) -> Iterator[str]:
        """Run a block with these ids.

        Args:
            correlation_id: The correlation id. Defaults to the current one, or else to a new one.
            actor: The user's id. Defaults to the current actor.

        Yields:
            The block's correlation id.
        """
        chosen = correlation_id or _correlation_id.get() or uuid4().hex
        id_token = _correlation_id.set(chosen)
        actor_token = _actor.set(actor or _actor.get())
        try:
            yield chosen
        finally:
            _actor.reset(actor_token)
            _correlation_id.reset(id_token)
