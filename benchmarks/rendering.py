"""Renders services for the benchmarks, runs drivers in them, and measures commands."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COPIER = str(Path(sys.executable).parent / "copier")
UV = str(ROOT / "script" / "uv")
UNWANTED = (
    "VIRTUAL_ENV",
    "MONGODB_URL",
    "REDIS_URL",
    "SMTP_URL",
    "PYTHONDONTWRITEBYTECODE",
)
"""Settings of this machine that would change a figure."""


def clean_environment() -> dict[str, str]:
    """Return the environment of everything that a benchmark measures."""
    return {name: value for name, value in os.environ.items() if name not in UNWANTED}


def measure(*command: str, cwd: Path, **variables: str) -> float:
    """Run a command, and return how many seconds it took.

    Args:
        *command: The command.
        cwd: The working directory.
        **variables: Additional variables of the command's environment.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    environment = clean_environment() | variables
    started = perf_counter()
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)
    return perf_counter() - started


def clone_template(folder: Path) -> Path:
    """Clone the template, so that no untracked file of this working tree has a part in a figure.

    Args:
        folder: The folder in which to make the clone.

    Returns:
        The clone.
    """
    clone = folder / "groundwork"
    measure("git", "clone", "--quiet", str(ROOT), str(clone), cwd=folder)
    return clone


def copy_service(template: Path, service: Path, *options: str) -> float:
    """Render a service with `copier copy`, and return how many seconds that took.

    Args:
        template: The template.
        service: The folder of the service.
        *options: Additional options of `copier copy`.
    """
    command = [COPIER, "copy", "--defaults", "--quiet", *options, str(template), str(service)]
    return measure(*command, cwd=service.parent)


def run_driver(
    name: str,
    tasks: str,
    *arguments: str,
    documents: str = "",
    options: Sequence[str] = (),
) -> int:
    """Render a service, add a module of tasks to it, and run a driver in it.

    Args:
        name: The name of the benchmark. `<name>_driver.py` of this folder is the driver, which may
            have further modules `<name>_driver_*.py`. `app/tasks/<name>.py` of the service is the
            module of tasks.
        tasks: The source of the module of tasks.
        *arguments: The driver's arguments.
        documents: The names of the documents in the module of tasks, separated by commas.
        options: Additional options of `copier copy`.

    Returns:
        The driver's exit status.
    """
    with tempfile.TemporaryDirectory() as folder:
        service = Path(folder) / "service"
        copy_service(ROOT, service, "--vcs-ref=HEAD", *options)
        _add_tasks(service, name, tasks)
        if documents:
            _add_documents(service, name, documents)
        for file in [*HERE.glob(f"{name}_driver*.py"), *HERE.glob("driver_*.py")]:
            shutil.copy(file, service)
        shutil.copytree(HERE / "peers", service, dirs_exist_ok=True)
        command = [UV, "run", "--quiet", "python", f"{name}_driver.py", *arguments]
        environment = clean_environment() | {"UV": UV}
        return subprocess.run(command, cwd=service, env=environment).returncode


def _add_tasks(service: Path, name: str, tasks: str) -> None:
    folder = service / "app" / "tasks"
    (folder / f"{name}.py").write_text(tasks)
    with (folder / "worker.py").open("a") as worker:
        worker.write(f"from . import {name}\n")


def _add_documents(service: Path, name: str, documents: str) -> None:
    main = service / "app" / "main.py"
    text = main.read_text()
    first = "from core.entry"
    text = text.replace(first, f"from app.tasks.{name} import {documents}\n{first}")
    text = text.replace("documents=DOCUMENTS", f"documents=[*DOCUMENTS, {documents}]")
    main.write_text(text)
