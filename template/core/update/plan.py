"""Plans what a merge changes in the service."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.update.conflicts import (
    DELETION_OBSTACLE,
    MOVED_EDIT,
    OBSTACLE,
    SERVICE_DELETION,
    describe,
    stages_by_path,
)
from core.update.git import Repository
from core.update.journal import Change, find_mark
from core.update.merge_repository import (
    CORE,
    SERVICE_BRANCH,
    MergeRepository,
)

UPDATER = f"{CORE}/update"


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of an update.

    Attributes:
        changes: The changes, in an order in which each of them can be made.
        problems: A text for each path that needs a person.
        notes: A text for each path about which the user should know.
        entries: The index entries that record the problems.
        added: The new files that git ignores. The next commit would leave them out.
        moved: The files with an edit that the update renamed: the old path by the new one.
    """

    changes: list[Change]
    problems: dict[str, str]
    notes: dict[str, str]
    entries: list[str]
    added: list[str]
    moved: dict[str, str]


def make_plan(merged: MergeRepository, service: Repository, deleted: set[str]) -> Plan:
    """Compare the merged files with the service's. Files whose content is not in git stay.

    Args:
        merged: The repository with the merged files.
        service: The service.
        deleted: The paths that stay deleted.

    Raises:
        UpdateError: A git command failed.
        OSError: A file cannot be read.
    """
    changed = {
        *merged.entries(
            "diff",
            "--name-only",
            "--no-renames",
            "-z",
            SERVICE_BRANCH,
        )
    }
    changed |= {*merged.entries("ls-files", "-z", "--others")}
    written = {name for name in changed if _is_file(merged.folder / name)}
    # "H" leaves out the files that git has been told to ignore: assume-unchanged, skip-worktree.
    files = service.entries("ls-files", "-z", "-v", CORE)
    tracked = {file[2:] for file in files if file.startswith("H")}
    removed = {name for name in (changed - written) & tracked if _is_file(service.folder / name)}
    blocked = _find_obstacles(merged.folder, service.folder, written, removed, tracked)
    for name in changed - written - tracked:
        if os.path.lexists(service.folder / name):
            blocked[name] = DELETION_OBSTACLE
    for name in deleted:
        if os.path.lexists(service.folder / name):
            blocked[name] = OBSTACLE.format(found=name, path=name)
    written -= blocked.keys()
    unmerged = merged.unmerged_entries()
    problems = {
        name: describe(name, stages, merged.folder)
        for name, stages in stages_by_path(unmerged).items()
    }
    notes = dict.fromkeys(deleted, SERVICE_DELETION)
    moved = merged.moved_edits()
    for name, old_name in moved.items():
        notes[name] = MOVED_EDIT.format(old=old_name)
    return Plan(
        changes=_in_order(merged.folder, service.folder, written, removed),
        problems=problems | blocked,
        notes={name: notes[name] for name in notes.keys() - blocked.keys() - problems.keys()},
        entries=[*unmerged, *merged.update_entries(blocked)],
        added=_find_ignored(service, written - tracked),
        moved=moved,
    )


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _in_order(merged: Path, service: Path, written: set[str], removed: set[str]) -> list[Change]:
    """Return changes in an order in which each of them can be made.

    The updater comes first, so it works if the update is interrupted. New files come before the
    files that need them, and most files are removed last.
    """
    folders = _folders_of(written)
    folded = {name.casefold() for name in written}
    in_the_way = {
        name
        for name in removed
        if name in folders
        or written & _folders_of([name])
        or name.casefold() in folded  # the same file, on a disk that ignores case
    }

    def rank(name: str) -> tuple[bool, bool, str]:
        return not name.startswith(UPDATER), (service / name).exists(), name

    return [
        *(Change(name, None) for name in sorted(in_the_way)),
        *(Change(name, merged / name) for name in sorted(written, key=rank)),
        *(Change(name, None) for name in sorted(removed - in_the_way)),
    ]


def _find_obstacles(
    merged: Path,
    service: Path,
    names: Iterable[str],
    removed: set[str],
    tracked: set[str],
) -> dict[str, str]:
    """Describe the paths at which the service has something that is not in git."""
    blocked = {}
    for name in sorted(names):
        target = service / name
        if find_mark(merged / name) == find_mark(target):
            continue
        obstacle = _find_obstacle(service, name, removed, name in tracked)
        if obstacle:
            blocked[name] = OBSTACLE.format(found=obstacle, path=name)
    return blocked


def _find_obstacle(service: Path, name: str, removed: set[str], is_tracked: bool) -> str | None:
    """Return the path that would be lost or followed if a file were written."""
    target = service / name
    if target.is_dir() and not target.is_symlink():
        found = {path.relative_to(service).as_posix() for path in target.rglob("*")}
        return name if found - removed - _folders_of(removed) else None
    if not is_tracked and os.path.lexists(target):
        return name
    folders = [str(folder) for folder in PurePosixPath(name).parents]
    return next(
        (folder for folder in folders if _is_file(service / folder) and folder not in removed),
        None,
    )


def _folders_of(names: Iterable[str]) -> set[str]:
    return {str(folder) for name in names for folder in PurePosixPath(name).parents}


def _find_ignored(service: Repository, names: Iterable[str]) -> list[str]:
    listed = b"".join(os.fsencode(name) + b"\0" for name in sorted(names))
    ignored = service.git("check-ignore", "-z", "--stdin", data=listed, check=False)
    return [os.fsdecode(name) for name in ignored.split(b"\0") if name]
