"""Finds what a merge changes in the service."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from core.update.conflicts import DELETION_OBSTACLE, OBSTACLE
from core.update.git import Repository
from core.update.journal import Change, find_mark
from core.update.merge_repository import (
    CORE,
    SERVICE_BRANCH,
    MergeRepository,
)


def find_changes(
    merged: MergeRepository,
    service: Repository,
) -> tuple[list[Change], dict[str, str], list[str]]:
    """Compare the merged files with the service's. Files whose content is not in git stay.

    Args:
        merged: The repository with the merged files.
        service: The service.

    Returns:
        The changes in their order; the paths that cannot be changed, each with a description; and
        the new files that git ignores. The next commit would leave these out.

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
    kept = {name for name in changed - written - tracked if os.path.lexists(service.folder / name)}
    blocked = dict.fromkeys(kept, DELETION_OBSTACLE)
    blocked |= _find_obstacles(merged.folder, service.folder, written, removed, tracked)
    written -= blocked.keys()
    ignored = _find_ignored(service, written - tracked)
    return _in_order(merged.folder, written, removed), blocked, ignored


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _in_order(merged: Path, written: set[str], removed: set[str]) -> list[Change]:
    """Return changes in an order in which each of them can be made. Most files are removed last."""
    folders = {str(folder) for name in written for folder in PurePosixPath(name).parents}
    in_the_way = {
        name
        for name in removed
        if name in folders or written & {str(folder) for folder in PurePosixPath(name).parents}
    }
    return [
        *(Change(name, None) for name in sorted(in_the_way)),
        *(Change(name, merged / name) for name in sorted(written)),
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
        leaving = {str(folder) for each in removed for folder in PurePosixPath(each).parents}
        return name if found - removed - leaving else None
    if not is_tracked and os.path.lexists(target):
        return name
    folders = [str(folder) for folder in PurePosixPath(name).parents]
    return next(
        (folder for folder in folders if _is_file(service / folder) and folder not in removed),
        None,
    )


def _find_ignored(service: Repository, names: Iterable[str]) -> list[str]:
    listed = b"".join(os.fsencode(name) + b"\0" for name in sorted(names))
    ignored = service.git("check-ignore", "-z", "--stdin", data=listed, check=False)
    return [os.fsdecode(name) for name in ignored.split(b"\0") if name]
