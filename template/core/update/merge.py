"""Merges two versions of `core/` into a service.

    python NEW/core/update/merge.py OLD NEW [ANSWERS_FILE] [--dry-run | --names]

OLD and NEW are folders with the rendered versions. The command runs in the service's folder and
needs the standard library only. `just update` runs the file of the new version, so that a release
can correct it.

Git merges whole trees, because Copier merges file by file and reports no failure. Its own update
drops an edit if the file was renamed or deleted, and all edits if one binary file changed.
"""

import argparse
import ast
import re
import signal
import sys
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

# Import the other modules of the new version, and leave no bytecode among the files to merge.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.update import ANSWERS_FILE, EXIT_CONFLICTS, EXIT_FAILED, LOCK
from core.update.conflicts import index_input
from core.update.git import UpdateError
from core.update.journal import (
    STOP_SIGNALS,
    Change,
    Journal,
    find_mark,
    ignore_stops,
    locked,
    print_kept,
    read_version,
)
from core.update.lost_names import find_lost_names
from core.update.merge_repository import CORE, MergeRepository
from core.update.plan import Plan, make_plan
from core.update.preview import print_diff, print_plan
from core.update.service import EXIT_STOPPED, Service
from core.update.sources import explain

SETTINGS = "config/settings.py"

CONFLICTS = """\
The update is done, except for these files:
{problems}
Resolve each of them, then run: uv lock && git add --all && git commit
To undo the update, run: just update --undo
"""


def _merge(service: Service, old: Path, new: Path, options: argparse.Namespace) -> int:
    """Merge, print what changes, change the service, and return the exit status."""
    head = service.find_head()
    before, after = read_version(service.answers_file), read_version(new / service.answers_file)
    with TemporaryDirectory(prefix="update.") as folder:
        merged = MergeRepository(service, Path(folder))
        deleted = merged.merge(old, new)
        if before == after:  # with other answers, so files may come back
            deleted |= merged.leave_out_deleted(service.answers_file)
        plan = make_plan(merged, service, deleted)
        plan.changes.extend(_last_changes(service, old, new))
        _print_news(service, old, new, before)
        if options.dry_run or options.names:
            print_plan(merged, plan)
            if options.dry_run:
                print_diff(merged)
            return 0
        if not plan.changes and not plan.entries:
            return 0
        report = _report(plan)
        status = EXIT_CONFLICTS if plan.problems else 0
        journal = Journal(service)
        journal.write(
            plan.changes,
            new / CORE / "update",
            index_input(merged, service, plan.entries),
            plan.added,
            lambda: service.check_unchanged(head),
            before=before,
            after=after,
            answers_file=service.answers_file.as_posix(),
            report=report,
            status=status,
        )
        kept = _finish(journal)
    sys.stdout.flush()
    print(report, end="", file=sys.stderr)
    print_kept(kept)
    journal.close()
    return EXIT_CONFLICTS if kept else status


def _last_changes(service: Service, old: Path, new: Path) -> list[Change]:
    """Return the change of the answers file. It comes last, because it names the version."""
    name = service.answers_file
    if find_mark(old / name) == find_mark(new / name):
        return []
    # `uv lock` changes the lock later.
    lock = [Change(LOCK, service.folder / LOCK)] if (service.folder / LOCK).exists() else []
    return [*lock, Change(name.as_posix(), new / name)]


def _report(plan: Plan) -> str:
    lines = [f"{path}: {text}.\n" for path, text in sorted(plan.notes.items())]
    if plan.problems:
        texts = [f"  {path}: {text}." for path, text in sorted(plan.problems.items())]
        lines.append(CONFLICTS.format(problems="\n".join(texts)))
    return "".join(lines)


def _finish(journal: Journal) -> dict[str, str]:
    """Make the changes, or undo them if that fails. Return a text for each path that stays."""
    ignore_stops()
    try:
        return journal.finish()
    except (UpdateError, OSError) as error:
        try:
            journal.undo()
        except (UpdateError, OSError) as second:
            problem = f"The update was interrupted, and undoing it failed: {second}"
            hint = "Remove the cause, then run `just update --undo`."
            raise UpdateError(f"{error} {problem} {hint}") from error
        raise UpdateError(f"{explain(error).rstrip('.')}. Nothing was changed.") from error


def _print_news(service: Service, old: Path, new: Path, version: str) -> None:
    before = _read(old, "CHANGELOG.md")
    sections = re.split(
        r"^(?=## )",
        _read(new, "CHANGELOG.md"),
        flags=re.MULTILINE,
    )[1:]
    sections = [section.strip() for section in sections]
    own = f"[{version.removeprefix('v')}]"
    newer = takewhile(lambda section: own not in section[:40], sections)  # the newest comes first
    news = [section for section in newer if section not in before and "\n" in section]
    if news:
        print("What is new:", *news, sep="\n\n", end="\n\n")
    settings = _settings(_read(new, SETTINGS)) - _settings(_read(old, SETTINGS))
    if settings:
        print(f"New settings (see core/{SETTINGS}): {', '.join(sorted(settings))}")
    lost = find_lost_names(service, old, new)
    if lost:
        print("Change these lines of your code:", *lost, sep="\n  ")


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


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("answers_file", type=Path, nargs="?", default=Path(ANSWERS_FILE))
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    parser.add_argument("--names", action="store_true", help="the same, without the diff")
    return parser.parse_args()


def main() -> int:
    """Merge, print the result, and return the exit status: 0, or 3 if there are conflicts."""
    options = _parse_options()
    service = Service(options.answers_file)
    service.check_repository()
    with locked(service):
        Journal(service).check()
        if not options.dry_run and not options.names:
            service.check_clean()
        return _merge(service, options.old, options.new, options)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(EXIT_STOPPED)
    except (UpdateError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
