"""Arguments: checked against annotations when a job is enqueued, rebuilt from JSON when it runs."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_type_hints

from bson import ObjectId
from pydantic import (
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic_core import PydanticSerializationError, from_json, to_json

from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.sensitive import is_sensitive

_CONFIG = ConfigDict(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="strings",
)
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
        if any(parameter.kind in _VARIABLE for parameter in parameters.values()):
            rule = "name each parameter; *args and **kwargs cannot be checked"
            raise InvalidTask(f"task {task}: {rule}")
        # The model uses aliases: a parameter may have the name of an attribute of BaseModel.
        self._names = {f"p{number}": name for number, name in enumerate(parameters)}
        try:
            hints = get_type_hints(function, include_extras=True)
            self._model = self._make_model(hints)
            self._result = self._make_result(hints)
            self.sensitive = [name for name in parameters if is_sensitive(hints.get(name, Any))]
        except Exception as error:
            reason = str(error).splitlines()[0]
            problem = "an annotation cannot be used for a job"
            raise InvalidTask(f"task {task}: {problem}: {reason}") from error

    def _make_model(self, hints: dict[str, Any]) -> type[BaseModel]:
        fields: dict[str, Any] = {
            alias: (hints.get(name, Any), ...) for alias, name in self._names.items()
        }
        model = create_model(self._task, __config__=_CONFIG, **fields)
        if b'"writeOnly":true' in to_json(model.model_json_schema()):
            raise ValueError("a SecretStr or SecretBytes would arrive as asterisks; use Sensitive")
        return model

    def _make_result(self, hints: dict[str, Any]) -> TypeAdapter[Any]:
        annotation = hints.get("return", Any)
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        if is_sensitive(annotation):
            rule = "a result is stored in plain text and must not be sensitive"
            raise ValueError(f"{rule}; return an id instead")
        return adapter

    def dump(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments of a call, and return them as plain JSON data by parameter name.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"task {self._task}: {error}") from None
        bound.apply_defaults()
        values = {alias: _plain(bound.arguments[name]) for alias, name in self._names.items()}
        with self._reporting():
            dumped = self._model.model_validate(values).model_dump_json()
            # An argument that cannot be rebuilt must not be enqueued.
            self._model.model_validate_json(dumped)
        return {self._names[alias]: value for alias, value in from_json(dumped).items()}

    def load(self, arguments: dict[str, Any]) -> inspect.BoundArguments:
        """Rebuild a call from plain JSON data.

        Args:
            arguments: The data that `dump` returned.

        Raises:
            InvalidArguments: The arguments do not fit the function's present parameters.
        """
        parameters = self._signature.parameters.keys()
        if dropped := arguments.keys() - parameters:
            names = ", ".join(sorted(dropped))
            raise InvalidArguments(f"task {self._task}: it no longer takes {names}")
        bound = self._signature.bind_partial()
        bound.arguments.update(arguments)
        bound.apply_defaults()
        if missing := parameters - bound.arguments.keys():
            names = ", ".join(sorted(missing))
            raise InvalidArguments(f"task {self._task}: it now also needs {names}")
        values = {alias: bound.arguments[name] for alias, name in self._names.items()}
        with self._reporting():
            model = self._model.model_validate_json(to_json(values))
        for alias, name in self._names.items():
            bound.arguments[name] = getattr(model, alias)
        return bound

    def load_result(self, value: Any) -> Any:
        """Rebuild a result by the function's return annotation.

        Args:
            value: The result as plain JSON data.

        Returns:
            The result; the data itself if it does not fit the annotation.
        """
        try:
            return self._result.validate_python(value)
        except ValidationError:
            return value

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn an error of Pydantic into one line that names the parameter."""
        try:
            yield
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
            alias, *rest = detail["loc"]
            where = ".".join([self._names[str(alias)], *map(str, rest)])
            problem = f"parameter {where}: {detail['msg']}"
            raise InvalidArguments(f"task {self._task}: {problem}") from None
        except (PydanticSerializationError, UnicodeError) as error:
            problem = f"the arguments cannot be kept as JSON: {error}"
            raise InvalidArguments(f"task {self._task}: {problem}") from None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, ObjectId) else value
