"""The arguments of jobs: checked when a job is enqueued, and rebuilt from JSON when it runs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from functools import partial
from typing import Any, NoReturn, get_type_hints

from bson import ObjectId
from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from pydantic_core import from_json, to_json

from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.message import PlainArguments
from core.tasks.sensitive import is_sensitive

_CONFIG = ConfigDict(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="strings",
)
PythonArguments = dict[str, Any]
"""The arguments of a call by parameter name, as the function takes them."""

_Hints = dict[str, Any]
"""The annotations of the parameters by name, and of the result as `return`."""

_PLAIN = (str, int, bool, float)
"""Types whose values are the same after a trip through JSON."""

_VARIABLE = {
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
}


class Arguments:
    """The parameters and the result of one task's function.

    Args:
        task: The task's name.
        function: The task's function.

    Attributes:
        sensitive: The names of the sensitive parameters.

    Raises:
        InvalidTask: The function takes `*args` or `**kwargs`, or an annotation does not work as
            JSON.
    """

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        self._task = task
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        if kinds & _VARIABLE:
            rule = "name each parameter; *args and **kwargs cannot be checked"
            raise InvalidTask(f"task {task}: {rule}")
        self._positional_only = [
            name
            for name, parameter in parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        self._required = {
            name
            for name, parameter in parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        try:
            hints = get_type_hints(function, include_extras=True)
            self._adapter = self._make_adapter(hints)
            self._is_plain = all(hints.get(name) in _PLAIN for name in parameters)
            self._result = self._make_result(hints)
            self.sensitive = []
            for name in parameters:
                if is_sensitive(hints.get(name, Any)):
                    self.sensitive.append(name)
        except Exception as error:
            reason = str(error).splitlines()[0]
            if isinstance(error, PydanticSchemaGenerationError):
                unknown, _, _ = reason.partition(". Set ")
                reason = f"{unknown}; pass an id, or use a Pydantic model"
            problem = "an annotation cannot be used for a job"
            raise InvalidTask(f"task {task}: {problem}: {reason}") from error

    def _make_adapter(self, hints: _Hints) -> TypeAdapter[Any]:
        fields: list[tuple[str, Any, Any]] = []
        for name, parameter in self._signature.parameters.items():
            given: Any = field()
            if name not in self._required:
                # A job that was enqueued before the parameter existed gets the default unchanged.
                given = field(default_factory=partial(_same, parameter.default))
            fields.append((name, hints.get(name, Any), given))
        made = make_dataclass("Arguments", fields, kw_only=True)
        adapter: TypeAdapter[Any] = TypeAdapter(dataclass(config=_CONFIG)(made))
        if b'"writeOnly":true' in to_json(adapter.json_schema()):
            raise ValueError("a SecretStr or SecretBytes would arrive as asterisks; use Sensitive")
        return adapter

    def _make_result(self, hints: _Hints) -> TypeAdapter[Any]:
        annotation = hints.get("return", Any)
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        if is_sensitive(annotation):
            rule = "a result is stored in plain text and must not be sensitive"
            raise ValueError(f"{rule}; return an id instead")
        return adapter

    def dump(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        limit: int | None = None,
    ) -> PlainArguments:
        """Check the arguments of a call, and return them as plain JSON data.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.
            limit: The largest size of the JSON in bytes; no limit if None.

        Raises:
            InvalidArguments: An argument does not fit, or is too large; the message names the
                parameter.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"task {self._task}: {error}") from None
        bound.apply_defaults()
        values = {
            name: str(value) if isinstance(value, ObjectId) else value
            for name, value in bound.arguments.items()
        }
        try:
            dumped = self._adapter.dump_json(self._adapter.validate_python(values))
            if not self._is_plain:
                # An argument that cannot be rebuilt must not be enqueued.
                self._adapter.validate_json(dumped)
            # A message has one level more.
            plain: PlainArguments = from_json(b"[%b]" % dumped)[0]
        except ValueError as error:
            raise self._explain(error) from None
        if limit is not None and len(dumped) > limit:
            self._refuse_size(plain, len(dumped), limit)
        return plain

    def _refuse_size(self, plain: PlainArguments, size: int, limit: int) -> NoReturn:
        largest = max(plain, key=lambda name: len(to_json(plain[name])))
        problem = f"{size} bytes of arguments are more than {limit} (TASK_MAX_ARGUMENTS)"
        hint = "store the data in MongoDB or as a blob, and pass its id"
        raise InvalidArguments(f"task {self._task}: parameter {largest}: {problem}; {hint}")

    def load(self, arguments: PlainArguments) -> PythonArguments:
        """Rebuild the arguments of a call, by parameter name.

        Args:
            arguments: The arguments that `dump` returned.

        Raises:
            InvalidArguments: The arguments do not fit the function's present parameters.
        """
        dropped = arguments.keys() - self._signature.parameters.keys()
        if dropped:
            names = ", ".join(sorted(dropped))
            raise InvalidArguments(f"task {self._task}: it no longer takes {names}")
        missing = self._required - arguments.keys()
        if missing:
            names = ", ".join(sorted(missing))
            raise InvalidArguments(f"task {self._task}: it now also needs {names}")
        try:
            values: PythonArguments = vars(self._adapter.validate_json(to_json(arguments)))
        except ValueError as error:
            raise self._explain(error) from None
        return values

    def split(self, values: PythonArguments) -> tuple[list[Any], PythonArguments]:
        """Return the positional and the keyword arguments of a call.

        Args:
            values: The arguments that `load` returned.
        """
        args = [values[name] for name in self._positional_only]
        return args, {
            name: value for name, value in values.items() if name not in self._positional_only
        }

    def load_result(self, value: Any) -> Any:
        """Rebuild a result by the function's return annotation.

        Args:
            value: The result as plain JSON data.

        Returns:
            The result, or the data itself if it does not fit the annotation.
        """
        try:
            return self._result.validate_python(value)
        except ValidationError:
            return value

    def _explain(self, error: ValueError) -> InvalidArguments:
        """Return an error of Pydantic as one line that names the parameter."""
        problem = f"the arguments cannot be kept as JSON: {error}"
        if isinstance(error, ValidationError):
            detail = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, detail["loc"]))
            problem = f"parameter {place}: {detail['msg']}" if place else detail["msg"]
        return InvalidArguments(f"task {self._task}: {problem}")


def _same(value: Any) -> Any:
    return value
