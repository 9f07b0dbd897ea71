"""Arguments: checked against the function's annotations when enqueued, rebuilt from JSON when run."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_type_hints

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import PydanticSerializationError, from_json, to_json

from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.sensitive import is_sensitive

_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")
_UNSUPPORTED = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


class Arguments:
    """The parameters and the result of one task's function.

    Attributes:
        sensitive: The names of the parameters that are encrypted wherever they are kept.

    Raises:
        InvalidTask: The function takes `*args` or `**kwargs`, or has an annotation that cannot travel as JSON.
    """

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        self._task = task
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        if any(parameter.kind in _UNSUPPORTED for parameter in parameters):
            raise InvalidTask(f"task {task}: name each parameter; *args and **kwargs cannot be checked")
        try:
            hints = get_type_hints(function, include_extras=True)
            # Aliased, because a parameter may bear the name of one of BaseModel's own attributes.
            fields: dict[str, Any] = {
                f"p{index}": (hints.get(parameter.name, Any), ...) for index, parameter in enumerate(parameters)
            }
            self._model: type[BaseModel] = create_model(task, __config__=_CONFIG, **fields)
            if '"writeOnly":true' in to_json(self._model.model_json_schema()).decode():
                raise ValueError("a SecretStr or SecretBytes cannot travel; it would arrive as asterisks")
            self._result: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
            if is_sensitive(hints.get("return", Any)):
                raise ValueError("a result is kept in clear, so that it cannot be sensitive; return an id instead")
            self.sensitive = [name for name in self._signature.parameters if is_sensitive(hints.get(name, Any))]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise InvalidTask(f"task {task}: an annotation cannot be used for a job: {reason}") from error
        self._names = {f"p{index}": name for index, name in enumerate(self._signature.parameters)}

    def dump(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Check a call's arguments and turn them into plain JSON data by parameter name.

        Raises:
            InvalidArguments: One line that names the parameter.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"task {self._task}: {error}") from None
        bound.apply_defaults()
        plain = {name: str(value) if isinstance(value, ObjectId) else value for name, value in bound.arguments.items()}
        aliased = {alias: plain[name] for alias, name in self._names.items()}
        with self._reporting():
            dumped = self._model.model_validate(aliased).model_dump_json()
            self._model.model_validate_json(dumped)  # what cannot be rebuilt must not be enqueued
        return {self._names[alias]: value for alias, value in from_json(dumped).items()}

    def load(self, arguments: dict[str, Any]) -> inspect.BoundArguments:
        """Rebuild a call from what `dump` made.

        Raises:
            InvalidArguments: The function's parameters have changed since, in a way that does not fit.
        """
        bound = self._signature.bind_partial()
        known = {name: value for name, value in arguments.items() if name in self._signature.parameters}
        if dropped := arguments.keys() - known.keys():
            raise InvalidArguments(f"task {self._task}: it no longer takes {', '.join(sorted(dropped))}")
        bound.arguments.update(known)
        bound.apply_defaults()
        if missing := self._signature.parameters.keys() - bound.arguments.keys():
            raise InvalidArguments(f"task {self._task}: it now also needs {', '.join(sorted(missing))}")
        with self._reporting():
            dumped = to_json({alias: bound.arguments[name] for alias, name in self._names.items()})
            model = self._model.model_validate_json(dumped)
        bound.arguments.update({name: getattr(model, alias) for alias, name in self._names.items()})
        return bound

    def load_result(self, value: Any) -> Any:
        """Rebuild a result from its JSON data by the function's return annotation."""
        try:
            return self._result.validate_python(value)
        except ValidationError:
            return value  # the annotation was wrong or has changed; the value itself is still the truth

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what pydantic raises into one line that names the parameter."""
        try:
            yield
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
            alias, *rest = detail["loc"]
            where = ".".join([self._names[str(alias)], *map(str, rest)])
            raise InvalidArguments(f"task {self._task}: parameter {where}: {detail['msg']}") from None
        except (PydanticSerializationError, UnicodeError) as error:
            raise InvalidArguments(f"task {self._task}: the arguments cannot be kept as JSON: {error}") from None
