"""Compares the time of an update with the time of a copy. The target is at most 2x.

The service is unedited, and the update changes every module of `core/`.

script/uv run python benchmarks/update_time.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
COPIER = str(Path(sys.executable).parent / "copier")
RUNS = 5
AUTHOR = {
    "GIT_AUTHOR_NAME": "benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark",
    "GIT_COMMITTER_NAME": "benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark",
}


def git(folder: str, *arguments: str) -> None:
    subprocess.run(
        ["git", *arguments], cwd=folder, env=os.environ | AUTHOR, check=True, capture_output=True
    )


def commit(folder: str, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def timed(*command: str, cwd: str) -> float:
    started = perf_counter()
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    return perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        template = f"{folder}/groundwork"
        git(folder, "clone", "--quiet", str(ROOT), template)
        git(template, "tag", "--force", "v1000.0.0")
        for path in Path(template, "template", "core").rglob("*.py"):
            path.write_text(path.read_text() + "\n# newer\n")
        commit(template, "newer")
        git(template, "tag", "v1001.0.0")
        copies, updates = [], []
        for number in range(RUNS):
            service = f"{folder}/service-{number}"
            options = ["--quiet", "--defaults", "--vcs-ref=v1000.0.0"]
            copies.append(timed(COPIER, "copy", *options, template, service, cwd=folder))
            git(service, "init", "--quiet")
            Path(service, "uv.lock").unlink()  # updating the lock would measure the network
            commit(service, "rendered")
            command = [sys.executable, "-B", "-m", "core.update.command", "--defaults"]
            updates.append(timed(*command, cwd=service))
            shutil.rmtree(service)
        copied, updated = median(copies), median(updates)
        print(f"copy {copied:.2f} s, update {updated:.2f} s: {updated / copied:.2f}x (target: 2x)")


if __name__ == "__main__":
    main()
