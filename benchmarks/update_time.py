"""An update of an untouched project to a version with all of core changed, against its copy. To reach: at most 2x.

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
AUTHOR = {f"GIT_{role}_{what}": "benchmark" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: str, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | AUTHOR, check=True, capture_output=True)


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
            copying = [COPIER, "copy", "--quiet", "--defaults", "--vcs-ref=v1000.0.0", template, service]
            copies.append(timed(*copying, cwd=folder))
            git(service, "init", "--quiet")
            Path(service, "uv.lock").unlink()  # to lock again takes the network's time
            commit(service, "rendered")
            updates.append(timed(sys.executable, "core/dev/update.py", "--defaults", cwd=service))
            shutil.rmtree(service)
        copied, updated = median(copies), median(updates)
        print(f"copy {copied:.2f} s, update {updated:.2f} s: {updated / copied:.2f}x (to reach: 2x)")


if __name__ == "__main__":
    main()
