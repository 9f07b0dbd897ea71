"""The heartbeat, by which a process that runs jobs shows that it is alive."""

import os
import socket
import time
from typing import Any

from core.config import Settings, read_pyproject
from core.models import WorkerModel
from core.tasks.engine import Engine
from core.tasks.engines import find_name
from core.tasks.executor import Executor

EXPIRE_SECONDS = 60
"""After this time without a heartbeat, a worker counts as dead."""
MAX_RUNNING = 100
"""The largest number of running jobs that a heartbeat names."""


class Heartbeat:
    """Writes the document of this worker. The times are from the clock of MongoDB's server.

    Args:
        settings: The service's settings.
        engine: The engine.
        executor: Runs the jobs.
    """

    def __init__(self, settings: Settings, engine: Engine, executor: Executor) -> None:
        self._executor = executor
        self._started = time.perf_counter()
        self._key = {"_id": engine.name}
        project = read_pyproject()["project"]
        self._fixed = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": project["version"],
            "engine": find_name(settings),
            "concurrency": settings.task_concurrency,
            "queue": settings.queue_name,
        }

    async def beat(self) -> None:
        """Write the current state of this worker, with its running jobs."""
        running = [
            {
                "job_id": {"$literal": run.message.id},
                "task": {"$literal": run.message.task},
                "since": _when(run.started),
            }
            for run in self._executor.list_runs(MAX_RUNNING)
        ]
        fields: dict[str, Any] = {
            **{name: {"$literal": value} for name, value in self._fixed.items()},
            "running": running,
            "running_count": self._executor.running,
            "started_at": {"$ifNull": ["$started_at", _when(self._started)]},
            "seen_at": "$$NOW",
            "expires_at": {"$add": ["$$NOW", EXPIRE_SECONDS * 1000]},
        }
        workers = WorkerModel.get_pymongo_collection()
        await workers.update_one(self._key, [{"$set": fields}], upsert=True)

    async def stop(self) -> None:
        """Note the end of this worker, if it has a document."""
        workers = WorkerModel.get_pymongo_collection()
        await workers.update_one(self._key, [{"$set": {"expires_at": "$$NOW"}}])


def _when(moment: float) -> dict[str, Any]:
    """Return an expression that converts a moment of `time.perf_counter` to MongoDB's clock."""
    milliseconds = round((time.perf_counter() - moment) * 1000)
    return {"$subtract": ["$$NOW", milliseconds]}


async def find_workers(seconds: float = 0) -> list[WorkerModel]:
    """Return the workers that are alive, by host and process id.

    Args:
        seconds: Also return the workers that stopped or were lost within this time.
    """
    since = {"$subtract": ["$$NOW", int(seconds * 1000)]}
    is_alive = {"$expr": {"$gt": ["$expires_at", since]}}
    return await WorkerModel.find(is_alive).sort("host", "pid").to_list()
