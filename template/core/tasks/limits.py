"""Limits: how many jobs of a task run at once, in all workers together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from inspect import iscoroutinefunction, signature
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
        key: A function that makes a key from the job's arguments, which it gets by name. The number
            then holds for each key. Without a function, it holds for all jobs of the task.

    Raises:
        InvalidTask: A value is not valid.
    """

    concurrency: int
    key: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        if type(self.concurrency) is not int or self.concurrency < 1:
            raise InvalidTask(f"Limit takes a concurrency of 1 or more, not {self.concurrency!r}")
        if self.key is not None and (not callable(self.key) or iscoroutinefunction(self.key)):
            raise InvalidTask(f"Limit takes a plain function as its key, not {self.key!r}")


Limits = Limit | Sequence[Limit]


def check_keys(task: str, limits: Limits, function: Callable[..., Any]) -> None:
    """Check that the key function of each limit takes the task's arguments.

    Args:
        task: The task's name.
        limits: The task's limits.
        function: The task's function.

    Raises:
        InvalidTask: A key function does not take them.
    """
    for limit in _list(limits):
        if limit.key is None:
            continue
        try:
            signature(limit.key).bind(**signature(function).parameters)
        except (TypeError, ValueError) as error:
            problem = "the key of a limit gets all arguments of the task by name"
            raise InvalidTask(f"task {task}: {problem}: {error}") from None


def find_slots(task: str, limits: Limits, arguments: Mapping[str, Any]) -> Slots:
    """Return the slots that a job needs.

    Args:
        task: The task's name.
        limits: The task's limits.
        arguments: The job's arguments, by name.
    """
    slots: Slots = {}
    for number, limit in enumerate(_list(limits)):
        value = str(limit.key(**arguments)) if limit.key else ""
        # The server sees a hash only, because a key may be long or secret.
        key = sha256(to_json([task, number, value])).hexdigest()[:32]
        slots[key] = limit.concurrency
    return slots


def _list(limits: Limits) -> Sequence[Limit]:
    return [limits] if isinstance(limits, Limit) else limits
