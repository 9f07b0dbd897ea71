"""Limits: how many jobs of a task run at once, in all workers together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic_core import to_json

from core.tasks.errors import InvalidTask
from core.tasks.records import Slots


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest number of a task's jobs that run at once, in all workers together.

    A job that exceeds it steps aside, and runs when another job has ended.

    Attributes:
        concurrency: The number, at least 1.
        key: Makes a key from the task's arguments, which it gets by name. The number then holds for
            the jobs of each key, and otherwise for all jobs of the task.

    Raises:
        InvalidTask: A value is not valid.
    """

    concurrency: int
    key: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        if type(self.concurrency) is not int or self.concurrency < 1:
            raise InvalidTask(f"Limit takes a concurrency of 1 or more, not {self.concurrency!r}")
        if self.key is not None and not callable(self.key):
            raise InvalidTask(f"Limit takes a function as its key, not {self.key!r}")


def find_slots(
    task: str,
    limits: Limit | Sequence[Limit],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Slots:
    """Return the slots that a job needs.

    Args:
        task: The task's name.
        limits: The task's limits.
        args: The job's positional arguments.
        kwargs: The job's keyword arguments.
    """
    slots: Slots = {}
    for number, limit in enumerate([limits] if isinstance(limits, Limit) else limits):
        value = str(limit.key(*args, **kwargs)) if limit.key else ""
        # The server sees a hash only, because a key may be long or secret.
        key = sha256(to_json([task, number, value])).hexdigest()[:32]
        slots[key] = limit.concurrency
    return slots
