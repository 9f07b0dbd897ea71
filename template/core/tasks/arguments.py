"""Arguments: checked against the function's annotations when enqueued, rebuilt from JSON when run."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from core.tasks.errors import InvalidArguments, InvalidTask

_UNSUPPORTED = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


class Arguments:
    """The parameters and the result of one task's function.

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
            self._model: type[BaseModel] = create_model(
                task, __config__=ConfigDict(arbitrary_types_allowed=False), **fields
            )
            self._result: TypeAdapter[Any] = TypeAdapter(hints.get("return", Any))
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise InvalidTask(f"task {task}: an annotation cannot be used for a job: {reason}") from error
        self._names = {f"p{index}": name for index, name in enumerate(self._signature.parameters)}

    def dump(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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
        model = self._validate(plain)
        dumped = model.model_dump(mode="json")
        return {self._names[alias]: value for alias, value in dumped.items()}

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
        model = self._validate(bound.arguments)
        bound.arguments.update({name: getattr(model, alias) for alias, name in self._names.items()})
        return bound

    def load_result(self, value: Any) -> Any:
        """Rebuild a result from its JSON data by the function's return annotation."""
        try:
            return self._result.validate_python(value)
        except ValidationError:
            return value  # the annotation was wrong or has changed; the value itself is still the truth

    def _validate(self, values: dict[str, Any]) -> BaseModel:
        aliased = {alias: values[name] for alias, name in self._names.items() if name in values}
        try:
            return self._model.model_validate(aliased)
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
            alias, *rest = detail["loc"]
            where = ".".join([self._names[str(alias)], *map(str, rest)])
            raise InvalidArguments(f"task {self._task}: parameter {where}: {detail['msg']}") from None
