"""The options of schedules: typed for the caller, and checked when the service starts."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, TypedDict

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from core.tasks.errors import InvalidTask


class ScheduleOptions(TypedDict, total=False):
    """The options that every schedule takes. An option that is None has its default.

    Attributes:
        id: The schedule's id. Defaults to the task's name for the task's first schedule, and to
            `name:2`, `name:3` for the next ones, in the order of their declarations.
        name: A title for people.
        timezone: A time zone such as `Europe/Berlin`. Defaults to `SCHEDULE_TIMEZONE`.
        start_date: The first time at which the schedule may fire.
        end_date: The last time at which the schedule may fire.
        jitter: The longest random delay of a run, in seconds. Defaults to no delay.
        args: The arguments of the jobs: a sequence, or a mapping by name.
        enabled: Whether the schedule fires. If you change it in the code, the new value counts.
            Otherwise `enable` and `disable` decide. Defaults to True.
        misfire_grace: The longest time by which a run may be late, in seconds, for example because
            no worker was running; at least 10. If several runs are due, only the latest one is
            considered. Defaults to an hour.
    """

    id: str | None
    name: str | None
    timezone: str | None
    start_date: str | date | None
    end_date: str | date | None
    jitter: float | None
    args: Sequence[Any] | Mapping[str, Any] | None
    enabled: bool
    misfire_grace: float


class CronFields(TypedDict, total=False):
    """The fields of a cron trigger. In `day_of_week`, 0 is Monday."""

    year: int | str
    month: int | str
    day: int | str
    week: int | str
    day_of_week: int | str
    hour: int | str
    minute: int | str
    second: int | str


class IntervalFields(TypedDict, total=False):
    """The parts of an interval."""

    weeks: int
    days: int
    hours: int
    minutes: int
    seconds: int


class DateFields(TypedDict):
    """The time of a trigger that fires once."""

    run_date: str | date


class NewTaskOptions(TypedDict, total=False):
    """The options of the task that a schedule makes of a function."""

    max_retries: int | None
    timeout: float | None


class CronArguments(CronFields, ScheduleOptions, NewTaskOptions, total=False):
    """The arguments of a schedule by cron fields."""


class IntervalArguments(IntervalFields, ScheduleOptions, NewTaskOptions, total=False):
    """The arguments of a schedule by interval."""


class DateArguments(DateFields, ScheduleOptions, NewTaskOptions, total=False):
    """The arguments of a schedule that fires once."""


class CheckedOptions(BaseModel):
    """The values of `ScheduleOptions`. A value of any type is checked where it is used."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    id: Annotated[str, Field(min_length=1)]
    name: str | None = None
    timezone: Any = None
    start_date: Any = None
    end_date: Any = None
    jitter: NonNegativeFloat = 0
    args: Any = ()
    enabled: bool = True
    # A worker may see a schedule that was just enabled up to 6 s late.
    misfire_grace: Annotated[float, Field(ge=10)] = 3600


def check_options(options: Mapping[str, Any]) -> CheckedOptions:
    """Check the options of a schedule.

    Args:
        options: The options that were given.

    Raises:
        InvalidTask: An option has a wrong value.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return CheckedOptions(**given)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        name = detail["loc"][0]
        raise InvalidTask(f"{name}: {detail['msg']}") from None
