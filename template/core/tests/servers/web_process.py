"""The web process of a small service, which a test declares."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from core.config import ROOT
from core.dev.servers import free_port, is_listening
from core.testing import eventually

START_SECONDS = 60


@asynccontextmanager
async def web_process(folder: Path, source: str, **variables: str) -> AsyncIterator[int]:
    """Run a web process for a block, and yield its port. `folder / "log"` gets its log.

    Args:
        folder: An empty folder.
        source: A module that declares `service`.
        **variables: Further variables of its environment.
    """
    (folder / "served.py").write_text(source)
    port = free_port()
    environment = {
        **os.environ,
        "SERVICE": "served:service",
        "PYTHONPATH": f"{folder}:{ROOT}",
        "PORT": str(port),
        **variables,
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "core", "web"],
            env=environment,
            stderr=log,
        )
    try:
        await eventually(lambda: is_listening(port), START_SECONDS)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)
