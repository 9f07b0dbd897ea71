"""Reading settings from the environment and `.env`."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from core.config.env_file import ENV_FILE, read_env_file
from core.config.spelling import find_similar
from core.errors import UserError

S = TypeVar("S", bound=BaseSettings)
SettingsClass: TypeAlias = type[BaseSettings]

HINT = "set it in the environment or in .env"
SETUP_HINT = "`just setup` writes SECRET_KEY"
DEFAULT_NOT_MADE = "default_factory_not_called"

# By default, pydantic's errors show the values of all variables in `.env`. They would be logged.
BaseSettings.model_config["hide_input_in_errors"] = True


class SettingsError(UserError):
    """A setting is missing or wrong. The message names the setting and the fix."""


class BaseServiceSettings(BaseSettings):
    """The base class of settings. A field's variable is the field's name in capitals.

    The environment takes precedence over `.env`.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )


def read_settings(settings_class: type[S]) -> S:
    """Read settings from the environment and `.env`.

    Args:
        settings_class: A subclass of `BaseServiceSettings`.

    Raises:
        SettingsError: A setting is missing or wrong. One line names all such settings. It contains
            no values.
        UserError: A line of `.env` cannot be read.
    """
    if settings_class.model_config.get("env_file") == ENV_FILE:
        read_env_file()
    try:
        return settings_class()
    except (ValidationError, UnreadableSetting) as error:
        raise explain(error, settings_class) from None


def explain(
    error: ValidationError | UnreadableSetting,
    settings_class: SettingsClass,
) -> SettingsError:
    """Return an error that says in one line, without values, why settings cannot be read.

    Args:
        error: The error of pydantic.
        settings_class: The class of the settings.
    """
    if isinstance(error, ValidationError):
        problems = _list_problems(error, settings_class)
    else:
        problems = [_describe_unreadable(error, settings_class)]
    return SettingsError(f"settings: {'; '.join(problems)}")


def find_settings_class(name: str) -> SettingsClass | None:
    """Return the class of settings with this name, or None.

    Args:
        name: The name of the class. It is the title of pydantic's errors.
    """
    found = (each for each in _find_subclasses(BaseSettings) if each.__name__ == name)
    return next(found, None)


def list_variables(settings_class: SettingsClass) -> set[str]:
    """Return the names of the variables that a class of settings reads.

    Args:
        settings_class: The class.
    """
    names = set()
    for name, field in settings_class.model_fields.items():
        alias = field.validation_alias
        first = alias if isinstance(alias, str) else name
        names.add(_name_variable(settings_class, [first]))
    return names


def _find_subclasses(settings_class: SettingsClass) -> Iterator[SettingsClass]:
    for each in settings_class.__subclasses__():
        yield each
        yield from _find_subclasses(each)


def _list_problems(error: ValidationError, settings_class: SettingsClass) -> list[str]:
    details = error.errors(include_url=False, include_input=False)
    # Pydantic also reports each default that depends on a wrong setting.
    causes = [each for each in details if each["type"] != DEFAULT_NOT_MADE]
    wrong = [each for each in causes if each["type"] != "extra_forbidden"]
    problems = [_describe(each, settings_class) for each in wrong]
    if wrong:
        hint = f"{HINT}; {SETUP_HINT}" if "SECRET_KEY is missing" in problems else HINT
        problems[-1] += f" ({hint})"
    if len(wrong) < len(causes):
        name = settings_class.__name__
        cause = f"{name} refuses the other variables in .env"
        problems.append(f"{cause}; derive it from core.config.BaseServiceSettings")
    return problems


def _describe(detail: ErrorDetails, settings_class: SettingsClass) -> str:
    name = _name_variable(settings_class, detail["loc"])
    if detail["type"] == "missing":
        return _describe_missing(name, settings_class)
    message = detail["msg"].removeprefix("Value error, ")
    message = message.replace("items after validation", "characters")
    return f"{name}: {message}" if name else message


def _describe_missing(name: str, settings_class: SettingsClass) -> str:
    file = settings_class.model_config.get("env_file")
    in_file = dotenv_values(file) if isinstance(file, str | Path) else {}
    variables = {each.upper() for each in (*in_file, *os.environ)}
    variables -= list_variables(settings_class)
    similar = sorted(each for each in variables if find_similar(each, [name]))
    problem = f"{name} is missing"
    return f"{problem}, but {similar[0]} is set" if similar else problem


def _describe_unreadable(error: UnreadableSetting, settings_class: SettingsClass) -> str:
    field = re.search(r'field "(\w+)"', str(error))
    if not field:
        return str(error)
    name = _name_variable(settings_class, [field[1]])
    return f'{name} is not valid JSON; a list is written as ["a", "b"]'


def _name_variable(settings_class: SettingsClass, location: Sequence[int | str]) -> str:
    """Return the name of the variable for a field, or for a part of a field.

    Args:
        settings_class: The class with the field.
        location: The field's name or alias, and the names of its parts.
    """
    if not location:
        return ""
    config = settings_class.model_config
    first, *rest = map(str, location)
    if first in settings_class.model_fields:  # an alias gets no prefix
        first = config.get("env_prefix", "") + first
    delimiter = config.get("env_nested_delimiter") or "."
    return delimiter.join([first, *rest]).upper()
