"""Schedules as the code declares them, and the faults of broken ones."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.producer import ArgsAndKwargs
from core.tasks.schedules.options import CheckedOptions, ScheduleOptions, check_options
from core.tasks.schedules.triggers import FIELDS, make_trigger
from core.tasks.task import AnyTask

TIMING_OPTIONS = frozenset({"timezone", "start_date", "end_date", "jitter"})
"""The options that say when a schedule fires."""

_OPTIONS = ScheduleOptions.__optional_keys__


@dataclass(frozen=True)
class Declaration:
    """A schedule before the settings are known.

    Attributes:
        id: The schedule's id.
        task: The task to run.
        kind: The kind of its trigger: one of `core.tasks.schedules.triggers.FIELDS`.
        arguments: The trigger's arguments and the options, as they were given.
    """

    id: str
    task: AnyTask
    kind: str
    arguments: Mapping[str, Any]

    @property
    def trigger(self) -> str:
        """The trigger as text. Other arguments are left out, because they may be sensitive."""
        shown = FIELDS.get(self.kind, frozenset()) | TIMING_OPTIONS
        default = 0 if self.kind == "interval" else "*"
        words = [self.kind]
        for name, value in self.arguments.items():
            if name in shown and value not in (default, None):
                words.append(f"{name}={value}")
        return " ".join(words)

    @property
    def fields(self) -> dict[str, Any]:
        """The trigger's own arguments."""
        return {name: self.arguments[name] for name in self.arguments if name not in _OPTIONS}

    @property
    def options(self) -> dict[str, Any]:
        """The options."""
        given = {name: self.arguments[name] for name in self.arguments if name in _OPTIONS}
        return {**given, "id": self.id}


@dataclass(frozen=True)
class Schedule:
    """A schedule that can run.

    Attributes:
        id: The schedule's id.
        task: The task to run.
        trigger: When to run it.
        options: The checked options.
        arguments: The arguments of its jobs.
        timing: The declaration of the trigger, as text that is the same in each process.
        description: The declaration of the trigger, for people.
        definition: A hash of the whole declaration. It changes when the code changes the schedule.
    """

    id: str
    task: AnyTask
    trigger: BaseTrigger
    options: CheckedOptions
    arguments: ArgsAndKwargs
    timing: str
    description: str
    definition: str


@dataclass(frozen=True)
class BrokenSchedule:
    """A schedule that cannot run.

    Attributes:
        id: The schedule's id.
        task: The task's name.
        name: The title for people, or None.
        trigger: The trigger as it was declared.
        problem: Why the schedule cannot run.
    """

    id: str
    task: str
    name: str | None
    trigger: str
    problem: str

    def __str__(self) -> str:
        return f"{self.id} (task {self.task}): {self.problem}"


@dataclass(frozen=True)
class DeclaredSchedules:
    """The schedules of the code.

    Attributes:
        valid: The schedules that can run, by id.
        broken: The schedules that cannot.
    """

    valid: dict[str, Schedule]
    broken: list[BrokenSchedule]


def build_schedules(declarations: Iterable[Declaration], timezone: str) -> DeclaredSchedules:
    """Build every valid schedule, and tell why the others are broken.

    Args:
        declarations: The declarations of the code.
        timezone: The time zone of schedules that name none.
    """
    valid: dict[str, Schedule] = {}
    broken = []
    for declared in declarations:
        try:
            schedule = _build(declared, timezone)
            if schedule.id in valid:
                raise InvalidTask("another schedule has this id; give one of them another id")
            valid[schedule.id] = schedule
        except (InvalidTask, InvalidArguments) as error:
            broken.append(_describe(declared, error))
    return DeclaredSchedules(valid, broken)


def _build(declared: Declaration, default_zone: str) -> Schedule:
    task = declared.task
    options = check_options(declared.options)
    period = {
        "timezone": options.timezone or default_zone,
        "start_date": options.start_date,
        "end_date": options.end_date,
    }
    timing = _to_text({"kind": declared.kind, **declared.fields, **period})
    arguments = _split(options.args)
    whole = {
        "id": options.id,
        "task": task.name,
        "timing": timing,
        "jitter": options.jitter,
        "enabled": options.enabled,
        "arguments": task.arguments.dump(*arguments),
    }
    return Schedule(
        id=options.id,
        task=task,
        trigger=make_trigger(declared.kind, **period, **declared.fields),
        options=options,
        arguments=arguments,
        timing=timing,
        description=declared.trigger,
        # A hash, because arguments may be sensitive.
        definition=sha256(_to_text(whole).encode()).hexdigest(),
    )


def _describe(declared: Declaration, error: Exception) -> BrokenSchedule:
    task = declared.task.name
    name = declared.arguments.get("name")
    problem = str(error).removeprefix(f"task {task}: ")
    if isinstance(error, InvalidArguments):
        problem += "; the option `args` gives the arguments of its jobs"
    return BrokenSchedule(
        id=str(declared.id),
        task=task,
        name=name and str(name),
        trigger=declared.trigger,
        problem=problem,
    )


def _split(args: object) -> ArgsAndKwargs:
    if isinstance(args, Mapping):
        return (), args
    if isinstance(args, Sequence) and not isinstance(args, str | bytes):
        return tuple(args), {}
    # The message does not show the value, because it may be sensitive.
    raise InvalidTask("args must be a list, or a mapping by name")


def _to_text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)
