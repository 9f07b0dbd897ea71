"""Merges two versions of `core/` into a service: `python NEW/core/update/merge.py OLD NEW`.

OLD and NEW are folders with the rendered versions. The command runs in the service's folder and
needs the standard library only. `just update` runs the file of the new version, so that a release
can correct it.

Git merges whole trees, because Copier merges file by file and reports no failure. Its own update
drops an edit if the file was renamed or deleted, and all edits if one binary file changed.
"""

import ast
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

# Import the other modules of the new version, and leave no bytecode among the files to merge.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.update import EXIT_CONFLICTS
from core.update.conflicts import (
    OBSTACLE,
    SERVICE_DELETION,
    describe,
    record,
    stages_by_path,
)
from core.update.git import Repository, UpdateError
from core.update.merge_repository import CORE, MergeRepository
from core.update.sources import explain
from core.update.write_back import write_back

SETTINGS = "config/settings.py"

CONFLICTS = """\
The update is done, except for these files:
{problems}
Resolve each of them, then run: uv lock && git add --all && git commit
To undo the update, run in this folder: \
git reset --quiet . && git restore . && git clean -fd core"""


def _merge_core(service: Repository, old: Path, new: Path) -> tuple[dict[str, str], list[str]]:
    """Return a text for each conflict, and the paths that stay deleted."""
    with TemporaryDirectory(prefix="update.") as folder:
        merged = MergeRepository(service, Path(folder))
        deleted = merged.merge(old, new)
        unmerged = merged.unmerged_entries()
        blocked = write_back(merged, service)
        for path in deleted:
            if os.path.lexists(service.folder / path):
                blocked[path] = OBSTACLE.format(found=path, path=path)
        record(
            merged,
            service,
            [*unmerged, *merged.update_entries(blocked)],
        )
        problems = {}
        for path, stages in stages_by_path(unmerged).items():
            problems[path] = describe(path, stages, merged.folder)
    return problems | blocked, sorted(deleted - blocked.keys())


def _print_news(old: Path, new: Path) -> None:
    before = _read(old, "CHANGELOG.md")
    sections = re.split(
        r"^(?=## )",
        _read(new, "CHANGELOG.md"),
        flags=re.MULTILINE,
    )[1:]
    sections = [section.strip() for section in sections]
    news = [section for section in sections if section not in before and "\n" in section]
    if news:
        print("What is new:", *news, sep="\n\n", end="\n\n")
    settings = _settings(_read(new, SETTINGS)) - _settings(_read(old, SETTINGS))
    if settings:
        print(f"New settings (see core/{SETTINGS}): {', '.join(sorted(settings))}")


def _read(version: Path, name: str) -> str:
    path = version / CORE / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _settings(source: str) -> set[str]:
    """Return the environment variables that the text of `core/config/settings.py` declares."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
            names |= {ast.unparse(field.target).upper() for field in fields}
    return names


def main() -> int:
    """Merge, print the result, and return the exit status: 0, or 4 if there are conflicts."""
    old, new = (Path(folder) for folder in sys.argv[1:])
    problems, deleted = _merge_core(Repository(Path.cwd()), old, new)
    _print_news(old, new)
    for path in deleted:
        print(f"{path}: {SERVICE_DELETION}.")
    if not problems:
        return 0
    sys.stdout.flush()
    lines = [f"  {path}: {text}." for path, text in sorted(problems.items())]
    print(
        CONFLICTS.format(problems="\n".join(lines)),
        file=sys.stderr,
    )
    return EXIT_CONFLICTS


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (UpdateError, OSError) as error:
        sys.exit(f"error: {explain(error)}")
