from importlib.util import find_spec

from fastapi import APIRouter, Request

from app.pasted.notes import note
from app.tasks.worker import worker


class PacificPy(APIRouter):
    """Routes get the request, without an annotation."""

    def post(self, path):
        def add(function):
            function.__annotations__["request"] = Request
            return super(PacificPy, self).post(path)(function)

        return add


def background(function):
    """`worker.task` with its own name, because app-tasks.md has a `send_welcome_email` too."""
    return worker.task(name=f"example.{function.__name__}")(function)


def get_local_executor(max_workers: int) -> str:
    return "local"


def CeleryBackgroundBackend(celery_app: object) -> str:
    return "celery"


def ARQBackgroundBackend(redis_settings: object) -> str:
    return "arq"


def configure_background_tasks(backend: str) -> None:
    """Check that the service has this engine, because a setting chooses it, and not the code."""
    assert find_spec(f"core.tasks.engines.{backend}")


def configure_task_monitor() -> None: ...


def record_task_start(task_id: str, name: str) -> None:
    note("started", name)


def update_task_status(task_id: str, status: str, result: object) -> None:
    note(status, result)
