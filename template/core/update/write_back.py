"""Writes the merged files to the service."""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from core.update.conflicts import DELETION_OBSTACLE, OBSTACLE
from core.update.git import Repository
from core.update.merge_repository import (
    CORE,
    SERVICE_BRANCH,
    MergeRepository,
)


def write_back(merged: MergeRepository, service: Repository) -> dict[str, str]:
    """Write the changed files to the service. Files whose content is not in git stay.

    Args:
        merged: The repository with the merged files.
        service: The service.

    Returns:
        The paths that could not be written or deleted, each with a description.

    Raises:
        UpdateError: A git command failed.
        OSError: A file cannot be written.
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
    blocked = _delete_files(service.folder, changed - written, tracked)
    blocked |= _copy_files(merged.folder, service.folder, written, tracked)
    _add_ignored_files(service, written - tracked - blocked.keys())
    return blocked


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _delete_files(service: Path, names: set[str], tracked: set[str]) -> dict[str, str]:
    for name in names & tracked:
        (service / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            os.removedirs((service / name).parent)
    kept = {name for name in names - tracked if os.path.lexists(service / name)}
    return dict.fromkeys(kept, DELETION_OBSTACLE)


def _copy_files(
    merged: Path,
    service: Path,
    names: Iterable[str],
    tracked: set[str],
) -> dict[str, str]:
    blocked = {}
    for name in sorted(names):
        source, target = merged / name, service / name
        if _content(source) == _content(target):
            continue
        obstacle = _find_obstacle(target, name in tracked)
        if obstacle:
            found = obstacle.relative_to(service).as_posix()
            blocked[name] = OBSTACLE.format(found=found, path=name)
            continue
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return blocked


def _content(path: Path) -> tuple[str, bytes] | None:
    """Return a file's kind and content, or None if there is no file."""
    if path.is_symlink():
        return "link", os.fsencode(path.readlink())
    if not path.is_file():
        return None
    is_executable = path.stat().st_mode & 0o100
    return (
        "program" if is_executable else "file",
        path.read_bytes(),
    )


def _find_obstacle(target: Path, is_tracked: bool) -> Path | None:
    """Return the path that would be lost or followed if the target were written."""
    if target.is_dir() and not target.is_symlink():
        return target
    if not is_tracked and os.path.lexists(target):
        return target
    return next(
        (folder for folder in target.parents if _is_file(folder)),
        None,
    )


def _add_ignored_files(service: Repository, names: Iterable[str]) -> None:
    """Add the new files that git ignores, because the next commit would leave them out."""
    listed = b"".join(os.fsencode(name) + b"\0" for name in names)
    ignored = service.git("check-ignore", "-z", "--stdin", data=listed, check=False)
    if ignored:
        options = [
            "--force",
            "--intent-to-add",
            "--pathspec-from-file=-",
            "--pathspec-file-nul",
        ]
        service.git("--literal-pathspecs", "add", *options, data=ignored)
