"""The options that several commands share."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class ListByDefault(TyperGroup):
    """A group of commands whose `list` runs if no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the group.

        Args:
            ctx: The context of the group.
            args: The arguments. If the first one is an option, it is for `list`.
        """
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def parse_time(text: str) -> datetime:
    """Return a time; without a time zone it is in the zone of this machine.

    Args:
        text: A date, or a date and a time, in ISO 8601. Or a period before now, such as `1h`.

    Raises:
        BadParameter: The text is neither a time in ISO 8601 nor a period.
    """
    try:
        if period := re.fullmatch(r"(\d+)([mhd])", text, re.ASCII):
            number, unit = period.groups()
            return datetime.now().astimezone() - timedelta(**{UNITS[unit]: int(number)})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        hint = "write 30m, 1h, 2d, 2027-01-31 or 2027-01-31T12:00"
        raise typer.BadParameter(f"{text!r} is not a valid time; {hint}") from None


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="The largest number of lines.")]
Task = Annotated[str | None, typer.Option(help="Only jobs of this task.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="Only from this time on, such as 1h (the last hour), 30m, 2d or 2027-01-31.",
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Only before this time."),
]
