"""Merges two versions of `core/` into a service.

    python NEW/core/update/merge.py OLD NEW [ANSWERS_FILE]

OLD and NEW are folders with the rendered versions. The command runs in the service's folder and
needs the standard library only. `just update` runs the file of the new version, so that a release
can correct it.

Git merges whole trees, because Copier merges file by file and reports no failure. Its own update
drops an edit if the file was renamed or deleted, and all edits if one binary file changed.
"""

import ast
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

# Import the other modules of the new version, and leave no bytecode among the files to merge.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.update import ANSWERS_FILE, EXIT_CONFLICTS, EXIT_FAILED
from core.update.changes import find_changes
from core.update.conflicts import (
    OBSTACLE,
    SERVICE_DELETION,
    describe,
    index_input,
    stages_by_path,
)
from core.update.git import UpdateError
from core.update.journal import Change, Journal, find_mark, locked
from core.update.merge_repository import CORE, MergeRepository
from core.update.service import LOCK, Service

SETTINGS = "config/settings.py"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LATE_CHANGE = "you changed it during the update, so it stays as it is"

CONFLICTS = """\
The update is done, except for these files:
{problems}
Resolve each of them, then run: uv lock && git add --all && git commit
To undo the update, run: just update --undo"""


def _merge_core(service: Service, old: Path, new: Path) -> tuple[dict[str, str], list[str]]:
    """Return a text for each conflict, and the paths that stay deleted."""
    with TemporaryDirectory(prefix="update.") as folder:
        merged = MergeRepository(service, Path(folder))
        deleted = merged.merge(old, new)
        unmerged = merged.unmerged_entries()
        changes, blocked, ignored = find_changes(merged, service)
        for path in deleted:
            if os.path.lexists(service.folder / path):
                blocked[path] = OBSTACLE.format(found=path, path=path)
        problems = {}
        for path, stages in stages_by_path(unmerged).items():
            problems[path] = describe(path, stages, merged.folder)
        problems |= blocked
        index = index_input(merged, service, [*unmerged, *merged.update_entries(blocked)])
        kept = _change(service, old, new, changes, index, ignored, _report(problems))
    return problems | dict.fromkeys(kept, LATE_CHANGE), sorted(deleted - blocked.keys())


def _change(
    service: Service,
    old: Path,
    new: Path,
    changes: list[Change],
    index: str,
    ignored: list[str],
    report: str,
) -> list[str]:
    """Change the service's files. Return the paths that somebody else has changed meanwhile."""
    answers_file = service.answers_file
    before, after = old / answers_file, new / answers_file
    if not (changes or index or find_mark(before) != find_mark(after)):
        return []
    if (service.folder / LOCK).exists():
        changes.append(Change(LOCK, service.folder / LOCK))  # `uv lock` changes it later
    if after.exists():
        changes.append(Change(answers_file.as_posix(), after))  # names the version of the others
    journal = Journal(service)
    journal.write(
        changes,
        new / CORE / "update",
        index,
        ignored,
        before=_version(before),
        after=_version(after),
        report=report,
    )
    # From here on, the update is finished. A signal would leave half of it.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        return journal.finish()
    except (UpdateError, OSError) as error:
        try:
            journal.undo()
        except (UpdateError, OSError) as second:
            hint = "Remove the cause, then run `just update --undo`."
            problem = f"The update was cut off, and cannot be undone: {second}"
            raise UpdateError(f"{error} {problem} {hint}") from error
        raise UpdateError(f"{error} Nothing was changed.") from error


def _version(answers_file: Path) -> str:
    text = answers_file.read_text(encoding="utf-8") if answers_file.exists() else ""
    found = re.search(r"^_commit: (.*)$", text, re.MULTILINE)
    return found[1] if found else "an unknown version"


def _report(problems: Mapping[str, str]) -> str:
    lines = [f"  {path}: {text}." for path, text in sorted(problems.items())]
    return CONFLICTS.format(problems="\n".join(lines)) if problems else ""


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
    """Merge, print the result, and return the exit status: 0, or 3 if there are conflicts."""
    old, new = (Path(folder) for folder in sys.argv[1:3])
    answers_file = Path(sys.argv[3] if sys.argv[3:] else ANSWERS_FILE)
    service = Service(answers_file)
    with locked(service):
        Journal(service).check()
        service.check_clean()
        problems, deleted = _merge_core(service, old, new)
    _print_news(old, new)
    for path in deleted:
        print(f"{path}: {SERVICE_DELETION}.")
    if not problems:
        return 0
    sys.stdout.flush()
    print(_report(problems), file=sys.stderr)
    return EXIT_CONFLICTS


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (UpdateError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
