"""The names that the service and `core` already have: tasks, paths and collections."""

import os
import secrets

from fastapi.routing import iter_route_contexts

from core.config import get_settings
from core.dev.scaffold.names import Names
from core.entry import Service, load_service
from core.errors import UserError
from core.web import create_app

STAND_INS = {
    "ENVIRONMENT": "test",
    "SECRET_KEY": secrets.token_hex(32),
    "MONGODB_URL": "mongodb://127.0.0.1:1",
    "TASK_ENGINE": "local",
}
"""Settings with which the service can be loaded, but not opened, before `just setup`."""

COLLECTIONS_OF_LIMITS = {"limit_counters", "limit_windows"}


def check_free(kind: str, names: Names) -> None:
    """Check that the service does not have a part of this kind with this name.

    Args:
        kind: `task`, `route`, `model` or `migration`.
        names: The names of the new one.

    Raises:
        UserError: The name is taken, or the service cannot be loaded.
    """
    if kind == "migration":
        return
    os.environ.update(STAND_INS)
    settings = get_settings()
    service = load_service(settings)
    match kind:
        case "task":
            taken, wanted = set(service.worker.tasks), names.name
        case "route":
            routes = iter_route_contexts(create_app(service, settings).routes)
            taken, wanted = {_first_part(route.path or "") for route in routes}, names.path
        case _:
            taken, wanted = _list_collections(service), names.collection
            if names.class_name in {each.__name__ for each in service.all_documents()}:
                taken, wanted = {names.class_name}, names.class_name
    if wanted in taken:
        what = {"task": "task", "route": "path", "model": "document or collection"}[kind]
        problem = f"the service already has the {what} {wanted}"
        raise UserError(f"{problem}. Choose another name. Nothing was written.")


def _first_part(path: str) -> str:
    return "/" + path.strip("/").partition("/")[0]


def _list_collections(service: Service) -> set[str]:
    documents = service.all_documents()
    settings = [(each.__name__, getattr(each, "Settings", None)) for each in documents]
    return {getattr(each, "name", name) for name, each in settings} | COLLECTIONS_OF_LIMITS
