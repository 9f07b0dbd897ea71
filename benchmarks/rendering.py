"""A rendered service with tasks of a benchmark, for a driver that runs inside it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COPIER = str(Path(sys.executable).parent / "copier")
UV = str(ROOT / "script" / "uv")


def run_driver(name: str, tasks: str, *arguments: str, documents: str = "") -> int:
    """Render a service and run a driver in it.

    Args:
        name: Of the driver's file beside this one, and of the module of tasks: `<name>_driver.py`, `app.tasks.<name>`.
        tasks: The source of that module.
        *arguments: Of the driver.
        documents: The names of the documents in that module, with commas between them.

    Returns:
        The driver's exit status.
    """
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    with tempfile.TemporaryDirectory() as folder:
        service = Path(folder) / "service"
        subprocess.run([COPIER, "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", str(ROOT), str(service)], check=True)
        (service / "app" / "tasks" / f"{name}.py").write_text(tasks)
        with (service / "app" / "tasks" / "worker.py").open("a") as worker:
            worker.write(f"from . import {name}\n")
        if documents:
            main = service / "app" / "main.py"
            main.write_text(
                main.read_text()
                .replace("from core.entry", f"from app.tasks.{name} import {documents}\nfrom core.entry")
                .replace("documents=DOCUMENTS", f"documents=[*DOCUMENTS, {documents}]")
            )
        shutil.copy(HERE / f"{name}_driver.py", service)
        shutil.copytree(HERE / "peers", service, dirs_exist_ok=True)
        command = [UV, "run", "--quiet", "python", f"{name}_driver.py", *arguments]
        return subprocess.run(command, cwd=service, env={**environment, "UV": UV}).returncode
