"""Conflicts: their descriptions for the user, and their form in git's index."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from core.update.git import Repository

BASE, SERVICE, UPDATE = 1, 2, 3
"""The stages of a path in git's index: the version before, the service's file, the update's."""
SUBMODULE_MODE = "160000"

EDIT_CONFLICT = "you and the update changed the same lines. Both versions are marked in the file"
REPLACEMENT_CONFLICT = (
    "you and the update replaced it. Your file stays."
    " `git show :3:./{path}` prints the update's file"
)
MOVE_CONFLICT = "you and the update moved or replaced it in different ways. Choose one of the files"
UPDATE_DELETION = (
    "you edited it and the update deleted it. It stays: move your edit, then delete it"
)
SERVICE_DELETION = "you deleted it, so the update does not bring it back"
MOVED_EDIT = "the update moved {old} here, and your edit with it. Check that it still fits"
OBSTACLE = (
    "{found} has content that is not in git, so it stays."
    " `git show :3:./{path}` prints the update's file"
)
DELETION_OBSTACLE = "the update deleted it. It has content that is not in git, so it stays"


def stages_by_path(entries: Iterable[str]) -> dict[str, set[int]]:
    """Return the stages of each path.

    Args:
        entries: Entries of an index, as `git ls-files --unmerged` prints them.
    """
    stages: dict[str, set[int]] = {}
    for entry in entries:
        details, path = entry.split("\t", 1)
        stages.setdefault(path, set()).add(int(details[-1]))
    return stages


def describe(path: str, stages: set[int], folder: Path) -> str:
    """Return the description of a path that git could not merge.

    Args:
        path: The path.
        stages: Its stages.
        folder: The folder in which git merged.
    """
    if stages == {BASE, SERVICE}:
        return UPDATE_DELETION
    if not {SERVICE, UPDATE} <= stages:
        return MOVE_CONFLICT
    if _has_markers(folder / path):
        return EDIT_CONFLICT
    return REPLACEMENT_CONFLICT.format(path=path)


def _has_markers(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    starts = {line[:8] for line in path.read_bytes().splitlines()}
    return {b"<<<<<<< ", b">>>>>>> "} <= starts


def index_input(
    merged: Repository,
    service: Repository,
    entries: Sequence[str],
) -> str:
    """Return the input with which `git update-index -z --index-info` records conflicts.

    Git then refuses to commit until they are resolved. This copies their objects to the service.

    Args:
        merged: The repository that has the conflicting files.
        service: The service.
        entries: The conflicts, as `git ls-files --unmerged` prints them.

    Raises:
        UpdateError: A git command failed.
    """
    if not entries:
        return ""
    object_ids = [entry.split()[1] for entry in entries if not entry.startswith(SUBMODULE_MODE)]
    pack = merged.git(
        "pack-objects",
        "-q",
        "--stdout",
        data="\n".join(object_ids).encode(),
    )
    service.git("unpack-objects", "-q", data=pack)
    prefix = service.text("rev-parse", "--show-prefix")
    no_object = "0" * len(entries[0].split()[1])
    lines = [f"0 {no_object}\t{path}" for path in stages_by_path(entries)]  # removes stage 0
    lines += entries
    return "".join(line.replace("\t", f"\t{prefix}", 1) + "\0" for line in lines)
