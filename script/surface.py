"""The public names of `core/`, read from its source without importing it.

A name is public if it is in the `__all__` of a module of `PUBLIC_MODULES`.
"""

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import griffe

PUBLIC_MODULES = (
    "core.tasks",
    "core.tasks.worker",
    "core.web",
    "core.models",
    "core.database",
    "core.services.accounts",
    "core.services.audit",
    "core.services.blob",
    "core.services.email",
    "core.services.limits",
    "core.services.signatures",
    "core.services.targets",
    "core.services.webhooks",
    "core.background",
    "core.config",
    "core.context",
    "core.errors",
    "core.logging",
    "core.entry",
    "core.testing",
    "core.threads",
)
"""In the order of the page. A name that several modules have is described under the first one."""

INTERNAL_MEMBERS = frozenset(
    {
        "core.config.BaseServiceSettings.model_config",
        "core.config.Settings.model_config",
        "core.config.Settings.secret_keys",
        "core.entry.Service.all_documents",
        "core.services.blob.BlobService.store",
        "core.tasks.BoundTask.call",
        "core.tasks.BoundTask.task",
        "core.tasks.DeadLetters.move",
        "core.tasks.History.note",
        "core.tasks.History.write",
        "core.tasks.JobRecord.from_fields",
        "core.tasks.Schedules.broken",
        "core.tasks.Schedules.fire_due",
        "core.tasks.Schedules.register",
        "core.tasks.Schedules.tick",
        "core.tasks.Task.arguments",
        "core.tasks.Task.function",
        "core.tasks.Task.message",
        "core.tasks.Task.options",
        "core.tasks.Task.portal",
        "core.tasks.Task.priority",
        "core.tasks.Task.submit",
        "core.tasks.Task.submit_many",
        "core.tasks.Task.queue",
        "core.tasks.Worker.check",
        "core.tasks.Worker.watch",
        "core.tasks.Worker.is_open",
        "core.tasks.Worker.open",
        "core.tasks.Worker.portal",
        "core.tasks.Worker.problem",
        "core.tasks.Worker.queue",
        "core.tasks.Worker.report",
        "core.tasks.Worker.retire",
        "core.tasks.Worker.run",
        "core.tasks.Worker.takes_jobs",
        "core.tasks.Worker.tasks",
        "core.tasks.Worker.thread_limiter",
    }
)
"""Members of public classes that only `core/` uses. They are not public, although their names have
no underscore."""

LONGEST_VALUE = 60
SHOWN_DECORATORS = ("asynccontextmanager", "classmethod", "contextmanager", "staticmethod")

_ITERATOR = re.compile(r"(?:Async)?Iterator\[(.*)\]")


class SurfaceError(Exception):
    """The public names cannot be read; the message says why."""


@dataclass(frozen=True)
class Name:
    """A public name.

    Attributes:
        path: The name with its module.
        object: Its definition.
        same_as: The path under which it is described, if another module has it first.
        members: The public members, if it is a class.
    """

    path: str
    object: griffe.Object
    same_as: str | None = None
    members: tuple["Name", ...] = ()

    @property
    def signatures(self) -> list[str]:
        """The signature as code; several if the function is overloaded."""
        if self.same_as:
            return [f"the same as {self.same_as}"]
        if isinstance(self.object, griffe.Function):
            return _function_signatures(self.object)
        if isinstance(self.object, griffe.Class):
            return [_class_signature(self.object)]
        assert isinstance(self.object, griffe.Attribute)
        return [_attribute_signature(self.object)]


class Surface:
    """The public names of a folder that holds `core/`.

    Args:
        folder: The folder.
        public_modules: The modules whose `__all__` is public.
        internal_members: The members of public classes that are not public.

    Raises:
        SurfaceError: One of the modules or members does not exist, or a module has no `__all__`.
    """

    def __init__(
        self,
        folder: Path,
        public_modules: Sequence[str] = PUBLIC_MODULES,
        internal_members: Set[str] = INTERNAL_MEMBERS,
    ) -> None:
        loader = griffe.GriffeLoader(
            search_paths=[folder],
            allow_inspection=False,
            docstring_parser="google",
            docstring_options={"returns_named_value": False, "warnings": False},
        )
        self._core = loader.load("core")
        self._modules = loader.modules_collection
        self._described: dict[str, str] = {}
        self._internal = internal_members
        self._internal_found: set[str] = set()
        self.modules = {path: self._read_module(path) for path in public_modules}
        missing = sorted(internal_members - self._internal_found)
        if missing:
            raise SurfaceError(f"INTERNAL_MEMBERS names {', '.join(missing)}, which do not exist")

    def __iter__(self) -> Iterator[Name]:
        """Every public name, each class followed by its members."""
        for names in self.modules.values():
            for name in names:
                yield name
                yield from name.members

    def describe_module(self, path: str) -> str:
        """Return the first line of a module's docstring.

        Args:
            path: The module's name.
        """
        docstring = self._modules[path].docstring
        if docstring is None:
            raise SurfaceError(f"{path} has no docstring")
        return str(docstring.lines[0])

    def signatures(self) -> dict[str, list[str]]:
        """Return the signatures of every public name."""
        return {name.path: name.signatures for name in self}

    def paths(self) -> set[str]:
        """Return every public module and name."""
        return {*self.modules, *(name.path for name in self)}

    def not_public(self) -> list[str]:
        """Return the modules of core that are not public, and the other names of public modules."""
        return sorted(_find_others(self._core, self.paths()))

    def _read_module(self, path: str) -> list[Name]:
        try:
            module = self._modules[path]
        except KeyError:
            raise SurfaceError(f"PUBLIC_MODULES names {path}, which does not exist") from None
        if not module.exports:
            raise SurfaceError(f"{path} is public, but has no __all__")
        return [self._read_name(module, name) for name in map(str, module.exports)]

    def _read_name(self, module: griffe.Module, name: str) -> Name:
        path = f"{module.path}.{name}"
        # Not by `module[name]`: a submodule of the same name hides what `__init__` imports.
        found = _resolve(self._modules[module.imports.get(name, path)])
        same_as = self._described.setdefault(found.path, path)
        if same_as != path:
            return Name(path, found, same_as)
        members = tuple(self._read_members(path, found)) if found.is_class else ()
        return Name(path, found, members=members)

    def _read_members(self, class_path: str, found: griffe.Object) -> Iterator[Name]:
        for name, member in found.all_members.items():
            path = f"{class_path}.{name}"
            if path in self._internal:
                self._internal_found.add(path)
            elif _is_public_member(name, _resolve(member)):
                yield Name(path, _resolve(member))


def _resolve(found: griffe.Object | griffe.Alias) -> griffe.Object:
    return found.final_target if isinstance(found, griffe.Alias) else found


def _is_public_member(name: str, member: griffe.Object) -> bool:
    if member.is_class:
        return False
    if name.startswith("__"):  # `__init__` and operators are public if they are documented
        return member.has_docstring
    return not name.startswith("_")


def _find_others(module: griffe.Object | griffe.Alias, public: set[str]) -> Iterator[str]:
    """Find the modules and names below a module that are not public."""
    for name, member in module.members.items():
        path = f"{module.path}.{name}"
        is_import = member.is_alias
        if name.startswith("__") or (is_import and not _is_facade(module)):
            continue
        if not is_import and member.is_module:
            is_parent = any(each.startswith(f"{path}.") for each in public)
            # A public name that a module has, too, cannot be named: the names in the module are.
            if is_parent or path in public:
                yield from _find_others(member, public)
            else:
                yield path
        elif path not in public:
            yield path


def _is_facade(module: griffe.Object | griffe.Alias) -> bool:
    return isinstance(module, griffe.Module) and module.is_init_module


def _function_signatures(function: griffe.Function) -> list[str]:
    decorators = [decorator.callable_path.rpartition(".")[2] for decorator in function.decorators]
    if "fixture" in decorators:
        returns = _ITERATOR.sub(r"\1", str(function.annotation))
        return [f"fixture {function.name}: {returns}"]
    shown = "".join(f"@{name} " for name in decorators if name in SHOWN_DECORATORS)
    keyword = "async def" if "async" in function.labels else "def"
    variants = function.overloads or [function]
    signatures = [variant.signature(name=function.name) for variant in variants]
    # griffe leaves out `self`, but not the slash behind it.
    return [f"{shown}{keyword} {text.replace('(/, ', '(')}" for text in signatures]


def _class_signature(found: griffe.Class) -> str:
    bases = ", ".join(map(str, found.bases))
    return f"class {found.name}({bases})" if bases else f"class {found.name}"


def _attribute_signature(attribute: griffe.Attribute) -> str:
    annotation = _find_annotation(attribute)
    text = f"{attribute.name}: {annotation}" if annotation else attribute.name
    is_set_by_init = attribute.labels == {"instance-attribute"}
    if attribute.value is None or is_set_by_init:
        return text
    value = str(attribute.value)
    return f"{text} = {value if len(value) <= LONGEST_VALUE else '...'}"


def _find_annotation(attribute: griffe.Attribute) -> str | griffe.Expr | None:
    annotation = attribute.annotation
    if annotation is None and attribute.labels == {"instance-attribute"}:  # `self.id = id`
        assert isinstance(attribute.parent, griffe.Class)
        parameters = attribute.parent["__init__"].parameters
        value = str(attribute.value)
        return parameters[value].annotation if value in parameters else None
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
        slice_ = annotation.slice
        assert isinstance(slice_, griffe.ExprTuple)
        return slice_.elements[0]  # without MongoDB's indexes
    return annotation
