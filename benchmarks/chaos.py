"""Jobs while everything breaks: 0 lost, each effect once. Prints the time to recover.

A worker is killed every 2 s, the queue's server is restarted once (with its append-only file), MongoDB is stopped for
10 s, and one job ends its worker each time it runs. The ratio is against the same jobs with nothing breaking.

    script/uv run python benchmarks/chaos.py [JOBS]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIER = str(Path(sys.executable).parent / "copier")
UV = str(ROOT / "script" / "uv")
JOBS = "10000"

TASKS = '''
"""Jobs whose effects can be counted."""

import os

from app.tasks.worker import worker
from beanie import Document


class Effect(Document):
    id: int
    runs: int = 0


@worker.task(max_retries=50, retry_delay=0.5, retry_max_delay=5)
async def effect(number: int) -> None:
    """Takes effect once, by its key; counts how often it ran."""
    await Effect.get_pymongo_collection().update_one({"_id": number}, {"$inc": {"runs": 1}}, upsert=True)


@worker.task
async def killer() -> None:
    os._exit(1)
'''


def main() -> None:
    jobs = sys.argv[1] if len(sys.argv) > 1 else JOBS
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    with tempfile.TemporaryDirectory() as folder:
        service = Path(folder) / "service"
        subprocess.run([COPIER, "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", str(ROOT), str(service)], check=True)
        (service / "app" / "tasks" / "chaos.py").write_text(TASKS)
        with (service / "app" / "tasks" / "worker.py").open("a") as worker:
            worker.write("from . import chaos\n")
        main_module = service / "app" / "main.py"
        main_module.write_text(
            main_module.read_text()
            .replace("from core.service", "from app.tasks.chaos import Effect\nfrom core.service")
            .replace("documents=DOCUMENTS", "documents=[*DOCUMENTS, Effect]")
        )
        shutil.copy(ROOT / "benchmarks" / "chaos_driver.py", service)
        command = [UV, "run", "--quiet", "python", "chaos_driver.py", jobs]
        sys.exit(subprocess.run(command, cwd=service, env=environment).returncode)


if __name__ == "__main__":
    main()
