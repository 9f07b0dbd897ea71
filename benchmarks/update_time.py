"""An update of an untouched service against a copy of it: the median of 5 runs. Goal: at most 2x.

Each Python file in `core/` differs between the two versions.

    script/uv run python benchmarks/update_time.py
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from rendering import ROOT, clone_template, copy_service, measure

RUNS = 5
OLD = "v1000.0.0"
NEW = "v1001.0.0"
AUTHOR = {
    "GIT_AUTHOR_NAME": "benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark@example.com",
    "GIT_COMMITTER_NAME": "benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark@example.com",
}


def git(folder: Path, *arguments: str) -> None:
    measure("git", *arguments, cwd=folder, **AUTHOR)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def release_new_version(template: Path) -> None:
    git(template, "tag", "--force", OLD)
    for path in (template / "template" / "core").rglob("*.py"):
        path.write_text(path.read_text() + "\n# newer\n")
    commit(template, "newer")
    git(template, "tag", NEW)


def update_command() -> list[str]:
    """Return the command of `just update`, with the Copier of this environment."""
    script = (ROOT / "template" / "core" / "update.sh").read_text()
    (arguments,) = re.findall(r'^exec uvx .* python (.+) "\$@"$', script, re.MULTILINE)
    return [sys.executable, *arguments.split(), "--defaults"]


def main() -> None:
    copies = []
    updates = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        template = clone_template(folder)
        release_new_version(template)
        for number in range(RUNS):
            service = folder / f"service-{number}"
            copies.append(copy_service(template, service, f"--vcs-ref={OLD}"))
            git(service, "init", "--quiet")
            (service / "uv.lock").unlink()  # an update would lock again, which uses the network
            commit(service, "rendered")
            updates.append(measure(*update_command(), cwd=service))
            shutil.rmtree(service)
    copy = median(copies)
    update = median(updates)
    print(f"copy {copy:.2f} s, update {update:.2f} s: {update / copy:.2f}x (goal: 2x)")


if __name__ == "__main__":
    main()
