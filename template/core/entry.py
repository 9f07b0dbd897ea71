"""The service's entry point, which every process loads and opens."""

import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isasyncgenfunction
from types import ModuleType
from typing import Any, TypeAlias

from anyio.from_thread import BlockingPortal, start_blocking_portal
from beanie import Document
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware import Middleware
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from pydantic_settings import SettingsError as UnreadableSetting

from core.background import drain_background_tasks
from core.config import ROOT, Settings, SettingsError, get_settings
from core.config.base import explain, find_settings_class
from core.database import Database, open_database
from core.errors import UserError
from core.local_servers import use_running_servers
from core.logging import configure_logging, is_configured
from core.logging.tracebacks import describe_import_error, describe_in_full
from core.models import DOCUMENTS
from core.tasks import Worker

__all__ = ["Service", "open_service", "open_service_sync"]

ExceptionHandler: TypeAlias = Callable[[Request, Any], Coroutine[Any, Any, Response]]
Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class BrokenService(UserError):
    """The service's own code cannot be used. The message says where and why."""


@dataclass(frozen=True)
class Service:
    """The parts of a service, as `app.main` declares them.

    Attributes:
        documents: The documents of `app`. The documents of `core` are added to them.
        routers: The routers of the web process.
        worker: The registry of tasks.
        current_user: A FastAPI dependency that returns the logged-in user. Defaults to the
            dependency in `core.web`. Another one must call `TaskContext.set_actor(str(user.id))`,
            so that jobs belong to their users.
        settings: Your own settings, from `app.settings`.
        middleware: Middleware of the web process, outermost first. The correlation id and the
            access log are outside it, so a request that it answers is logged. The answers to errors
            are inside it, so it can add headers to them. The limit `MAX_BODY_SIZE` is inside it
            too: a middleware that reads bodies sets its own limit.
        exception_handlers: Functions that answer a status code or an exception class. They take the
            request and the exception. A handler replaces the handler in `core.web` for the same
            exception.
        lifespan: An async context manager around the web process. It takes the FastAPI application,
            opens after the database and the queue, and closes before them. The database may still
            be down then. It does not open in a worker: `worker.lifespan` opens resources for tasks,
            in every process.
        docs_url: The path of the API documentation. None turns the page off. Production serves none
            of these three paths, unless `API_DOCS` is true.
        redoc_url: The path of the documentation by ReDoc. None turns the page off.
        openapi_url: The path of the OpenAPI schema. None turns the schema and both pages off.

    Raises:
        BrokenService: One of the parts has a wrong type, or a document has a collection of `core`.
    """

    documents: Sequence[type[Document]]
    routers: Sequence[APIRouter]
    worker: Worker
    current_user: Callable[..., Any] | None = None
    settings: BaseSettings | None = None
    middleware: Sequence[Middleware] = ()
    exception_handlers: Mapping[int | type[Exception], ExceptionHandler] = field(
        default_factory=dict
    )
    lifespan: Lifespan | None = None
    docs_url: str | None = "/docs"
    redoc_url: str | None = "/redoc"
    openapi_url: str | None = "/openapi.json"

    def __post_init__(self) -> None:
        for document in self.documents:
            if not (isinstance(document, type) and issubclass(document, Document)):
                raise _wrong_part("documents", "subclasses of beanie.Document", document)
            _check_collection(document)
        for router in self.routers:
            if not isinstance(router, APIRouter):
                raise _wrong_part("routers", "objects of fastapi.APIRouter", router)
        for each in self.middleware:
            if not isinstance(each, Middleware):
                raise _wrong_part("middleware", "objects of fastapi.middleware.Middleware", each)
        if self.settings is not None and not isinstance(self.settings, BaseSettings):
            raise _wrong_part("settings", "the object that read_settings returned", self.settings)
        for path in filter(None, (self.docs_url, self.redoc_url, self.openapi_url)):
            if not path.startswith("/"):
                raise _wrong_part("docs_url", "a path that begins with a slash", path)
        if isasyncgenfunction(self.lifespan):
            name = self.lifespan.__name__
            raise _wrong_part("lifespan", "a function with @asynccontextmanager", name)

    def all_documents(self) -> list[type[Document]]:
        """Return the documents of `core` and of `app`.

        The services in `core` use the documents of `core` even if `app` subclasses them.
        """
        documents: list[type[Document]] = [*DOCUMENTS, *self.documents]
        return list(dict.fromkeys(documents))


def _check_collection(document: type[Document]) -> None:
    """Check that no document of `core`, other than a parent class, has the same collection."""
    name = _name_collection(document)
    for other in DOCUMENTS:
        if name == _name_collection(other) and not issubclass(document, other):
            problem = f"Service: the collection {name!r} of {document.__name__} belongs to core"
            raise BrokenService(f"{problem}. Set another name in its class `Settings`.")


def _name_collection(document: type[Document]) -> str:
    settings = getattr(document, "Settings", None)
    return getattr(settings, "name", document.__name__)


def _wrong_part(name: str, expected: str, value: object) -> BrokenService:
    return BrokenService(f"Service: {name} takes {expected}, not {value!r}")


def load_service(settings: Settings) -> Service:
    """Import the entry point that the setting `SERVICE` names, and check its tasks.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: The entry point does not exist, or is not a `Service`; or one of the
            service's own settings is missing or wrong.
        InvalidTask: A task cannot be used for jobs.
        ScheduleError: A schedule is broken, and this is not production.
        BrokenService: The service's code raised an error. If `LOG_LEVEL` is `DEBUG`, the message
            is the whole traceback.
    """
    module_name, _, attribute = settings.service.partition(":")
    problem = f"settings: SERVICE={settings.service}"
    try:
        module = _import(module_name)
    except UserError:
        raise
    except Exception as error:
        if _is_missing(module_name, error):
            raise SettingsError(f"{problem} cannot be loaded: {error}") from error
        in_full = settings.log_level == "DEBUG"
        describe = describe_in_full if in_full else describe_import_error
        raise BrokenService(describe(error)) from error
    service = getattr(module, attribute, None)
    if not isinstance(service, Service):
        raise SettingsError(f"{problem} is not a core.entry.Service")
    # Checked before servers are started, so the only output is the line that names the fault.
    service.worker.check(settings)
    return service


def check_own_settings(entry_point: str) -> None:
    """Check the service's own settings, by importing the module `settings` next to the entry point.

    This takes much less time than loading the service. Other errors are left to `load_service`.

    Args:
        entry_point: The entry point, as `module:name`.

    Raises:
        SettingsError: A setting is missing or wrong.
    """
    module, _, _ = entry_point.partition(":")
    package, _, _ = module.rpartition(".")
    try:
        _import(f"{package}.settings")
    except SettingsError:
        raise
    except Exception:
        return


def _import(module_name: str) -> ModuleType:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        return import_module(module_name)
    except UnreadableSetting as error:
        raise explain(error, BaseSettings) from None
    except ValidationError as error:
        settings_class = find_settings_class(error.title)
        if settings_class is None:
            raise
        raise explain(error, settings_class) from None


def _is_missing(module: str, error: Exception) -> bool:
    """Whether the module or its package is missing, and not a module that it imports."""
    if not isinstance(error, ModuleNotFoundError):
        return False
    return f"{module}.".startswith(f"{error.name}.")


@asynccontextmanager
async def open_service(
    service: Service | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Database]:
    """Open the database and the queue for a block, in any process, test or script.

    A script calls it without arguments. If `just dev` is running, the script uses its servers.

    Args:
        service: The service, as `app.main` declares it. Defaults to the one that the setting
            `SERVICE` names.
        settings: The settings. Without them the block begins only if the database can be reached,
            and log lines go to standard error.

    Yields:
        The connection to the database.

    Raises:
        UserError: `just dev` is not running, and a setting does not name its server.
        SettingsError: A setting is missing or wrong.
        DatabaseUnavailable: No settings were given, and the database cannot be reached.
    """
    is_script = settings is None
    settings = settings or _prepare_script()
    service = service or load_service(settings)
    documents = service.all_documents()
    async with (
        open_database(settings, documents) as database,
        service.worker.open(settings),
    ):
        if is_script:
            database.require()
        try:
            yield database
        finally:
            await drain_background_tasks(settings.task_grace_period)


@contextmanager
def open_service_sync() -> Iterator[BlockingPortal]:
    """Open the service for a block of a plain script, as `open_service` does without arguments.

    In the block, `enqueue_sync` works. The service runs in a thread.

    Yields:
        A portal of anyio, for async functions: `portal.call(job.result)`.

    Raises:
        UserError: `just dev` is not running, and a setting does not name its server.
        SettingsError: A setting is missing or wrong.
        DatabaseUnavailable: The database cannot be reached.
    """
    _prepare_script()  # here, so that a wrong setting has a short traceback
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_service()),
    ):
        yield portal


def _prepare_script() -> Settings:
    use_running_servers()
    settings = get_settings()
    if not is_configured():
        configure_logging(settings, "script")
    return settings
