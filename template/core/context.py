"""What travels with a piece of work: its correlation id and the user on whose behalf it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from asgi_correlation_id import correlation_id as _correlation_id

__all__ = ["TaskContext"]

_actor: ContextVar[str | None] = ContextVar("actor", default=None)


class TaskContext:
    """The correlation id (and the actor) of the code that is running.

    HTTP requests, jobs and background tasks each set them; everything that they call sees the same ones.
    """

    @staticmethod
    def get_correlation_id() -> str | None:
        """The id that this work carries, or None outside any."""
        return _correlation_id.get()

    @staticmethod
    def get_actor() -> str | None:
        """The id of the user on whose behalf this runs, or None."""
        return _actor.get()

    @staticmethod
    def set_actor(user_id: str | None) -> None:
        """Set the user on whose behalf the rest of this request or job runs.

        Args:
            user_id: The user's id, or None for nobody.
        """
        _actor.set(user_id)

    @staticmethod
    @contextmanager
    def use(correlation_id: str | None = None, actor: str | None = None) -> Iterator[str]:
        """Run a block under these ids.

        Args:
            correlation_id: The id to carry; the current one where None, a new one where there is none.
            actor: The user's id; the current one where None.

        Yields:
            The correlation id in force.
        """
        chosen = correlation_id or _correlation_id.get() or uuid4().hex
        id_token = _correlation_id.set(chosen)
        actor_token = _actor.set(actor or _actor.get())
        try:
            yield chosen
        finally:
            _actor.reset(actor_token)
            _correlation_id.reset(id_token)
