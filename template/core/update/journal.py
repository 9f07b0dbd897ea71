"""The journal of an update: the files before and after it, so that it can be finished or undone.

It is in git's folder, where a clone or a commit does not see it. It holds this code too, because
an update that was interrupted may have replaced half of the service's own updater:

    python .git/core-update/core/update/journal.py --undo

Standard library only.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.update import EXIT_CONFLICTS, EXIT_FAILED
from core.update.git import Repository, UpdateError

NAME = "core-update"
ROOM = 2**20
"""Bytes that an update leaves free on the disk, for git's index."""
INTERRUPTED = (
    "an update from {before} to {after} was interrupted."
    " `just update --continue` finishes it, and `just update --undo` takes it back."
)


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one file.

    Attributes:
        path: The file's path in the service.
        source: The file's new version, or None if the file is removed.
    """

    path: str
    source: Path | None


@contextmanager
def locked(service: Repository) -> Iterator[None]:
    """Let only one update at a time change the files of a repository.

    Args:
        service: The service.

    Raises:
        UpdateError: Another update holds the lock. The system frees it when that process ends.
    """
    with service.git_path(f"{NAME}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = "another update of this repository is running. Wait until it has ended."
            raise UpdateError(problem) from None
        yield


class Journal:
    """The journal of the last update in a repository. Change it only while `locked`.

    Args:
        service: The service.
    """

    def __init__(self, service: Repository) -> None:
        self.folder = service.git_path(NAME)
        self._service = service
        self._file = self.folder / "journal.json"

    def check(self) -> None:
        """Check that no update was interrupted.

        Raises:
            UpdateError: An update was interrupted.
        """
        journal = self.read()
        if journal and not journal["is_done"]:
            raise UpdateError(INTERRUPTED.format(**journal))

    def read(self) -> dict[str, Any]:
        """Return the journal, or an empty dictionary if no update has a journal."""
        try:
            journal: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return journal

    def write(
        self,
        changes: Sequence[Change],
        code: Path,
        index: str,
        added: Sequence[str],
        **details: Any,
    ) -> None:
        """Write a new journal. From then on, the update can be finished.

        Args:
            changes: The changes, in their order.
            code: The folder with this package in the new version.
            index: The input for `git update-index -z --index-info`.
            added: The paths of new files that git ignores.
            **details: `before` and `after`, the two versions; `report`, a text for the user; and
                `status`, the exit status.

        Raises:
            UpdateError: There is no room for the changes, or git's index is locked.
            OSError: A file cannot be written. Nothing has changed.
        """
        self._check_index()
        draft = self.folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(code, draft / "core" / "update", ignore=shutil.ignore_patterns("*.pyc"))
        files = []
        for number, change in enumerate(changes):
            target = self._service.folder / change.path
            marks = {}
            for side, path in (("before", target), ("after", change.source)):
                marks[side] = find_mark(path) if path else None
                (draft / side).mkdir(exist_ok=True)
                if path and marks[side]:
                    shutil.copy2(path, draft / side / str(number), follow_symlinks=False)
            files.append({"number": number, "path": change.path, **marks})
        needed = sum(path.lstat().st_size for path in (draft / "after").iterdir()) + ROOM
        if shutil.disk_usage(self._service.folder).free < needed:
            raise UpdateError(f"the disk is full. Make {needed} bytes free, then update again.")
        self._write_file(
            draft / self._file.name,
            {
                **details,
                "prefix": self._service.text("rev-parse", "--show-prefix"),
                "index": index,
                "added": list(added),
                "files": files,
                "is_done": False,
            },
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        draft.rename(self.folder)

    def finish(self) -> list[str]:
        """Make the changes that are not made yet. The caller then reports, and calls `close`.

        Returns:
            The paths that somebody has changed since. They stay.

        Raises:
            UpdateError, OSError: A change could not be made.
        """
        journal = self._load()
        index = os.fsencode(journal["index"])
        if index:  # first, because git fails if its index is locked
            self._service.git("update-index", "-z", "--index-info", data=index)
        _, kept = self._replace(journal["files"], "before", "after")
        added = [path for path in journal["added"] if path not in kept]
        self._service.git_with_paths(added, "add", "--force", "--intent-to-add")
        return kept

    def close(self) -> None:
        """Note that the update is done. Until then, it counts as interrupted."""
        self._write_file(self._file, {**self._load(), "is_done": True})

    def undo(self) -> list[str]:
        """Bring back the files as they were before the update, and delete the journal.

        Returns:
            The paths that somebody has changed since. They stay.

        Raises:
            UpdateError: There is no update to undo, or git's index is locked. Then call it again.
            OSError: A file cannot be written.
        """
        journal = self._load()
        self._write_file(self._file, {**journal, "is_done": False})
        replaced, kept = self._replace(journal["files"][::-1], "after", "before")
        unmerged = self._service.entries("ls-files", "--unmerged", "-z", "--", "core")
        paths = {*replaced, *journal["added"], *(entry.split("\t", 1)[1] for entry in unmerged)}
        self._service.git_with_paths(sorted(paths), "reset", "--quiet")
        shutil.rmtree(self.folder)
        return kept

    def note_change(self, path: str) -> None:
        """Note a later change of a file of the update: `uv lock` changes `uv.lock`.

        Args:
            path: The file's path in the service.
        """
        journal = self._load()
        for file in journal["files"]:
            if file["path"] == path:
                file["after"] = find_mark(self._service.folder / path)
        self._write_file(self._file, journal)

    def _load(self) -> dict[str, Any]:
        journal = self.read()
        if not journal:
            raise UpdateError("there is no update to finish or to undo.")
        if journal["prefix"] != self._service.text("rev-parse", "--show-prefix"):
            place = journal["prefix"] or "the root of the repository"
            raise UpdateError(f"the last update was made in {place}. Go there first.")
        return journal

    def _check_index(self) -> None:
        lock = self._service.git_path("index.lock")
        if lock.exists():
            problem = f"{lock} exists: a git command is running, or was killed."
            raise UpdateError(f"{problem} If none is running, delete that file.")

    def _write_file(self, path: Path, journal: dict[str, Any]) -> None:
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(journal), encoding="utf-8")
        os.sync()  # also the files of the update
        draft.replace(path)

    def _replace(
        self, files: Sequence[dict[str, Any]], old: str, new: str
    ) -> tuple[list[str], list[str]]:
        """Replace old files with new ones. Return the replaced paths, and the paths that stay."""
        replaced, kept = [], []
        for file in files:
            path = file["path"]
            target = self._service.folder / path
            with suppress(OSError):
                _draft_of(target).unlink()  # of a run that was interrupted
            mark = find_mark(target)
            if mark == file[new]:
                continue
            if mark != file[old]:
                kept.append(path)
                continue
            source = self.folder / new / str(file["number"])
            _put(target, source if file[new] else None)
            replaced.append(path)
        return replaced, kept


def find_mark(path: Path) -> str | None:
    """Return a text that identifies a file's kind and content, or None if there is no file.

    Args:
        path: The path of a file or a link.
    """
    if path.is_symlink():
        return f"link {path.readlink()}"
    if not path.is_file():
        return None
    kind = "program" if path.stat().st_mode & 0o100 else "file"
    return f"{kind} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _draft_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.update")


def _put(target: Path, source: Path | None) -> None:
    if source is None:
        target.unlink()
        with suppress(OSError):  # not empty
            os.removedirs(target.parent)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(target)
    try:
        shutil.copyfile(source, draft, follow_symlinks=False)
        shutil.copymode(source, draft, follow_symlinks=False)
        draft.replace(target)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


def main() -> int:
    """Finish or undo the last update of the service in the current folder.

    Without an option, only check that no update was interrupted.

    Returns:
        The exit status: 0, or 3 if a file needs you.
    """
    parser = argparse.ArgumentParser(prog="just update")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--continue", action="store_true", dest="finishes")
    group.add_argument("--undo", action="store_true")
    options = parser.parse_args()
    service = Repository(Path.cwd())
    journal = Journal(service)
    if not (options.undo or options.finishes):
        journal.check()
        return 0
    with locked(service):
        details = journal.read()
        if options.undo:
            kept = journal.undo()
            print("The update from {before} to {after} was taken back.".format(**details))
            print_kept(kept)
            return EXIT_CONFLICTS if kept else 0
        kept = journal.finish()
        print("The update from {before} to {after} is finished.".format(**details))
        print(details["report"], end="", file=sys.stderr)
        print_kept(kept)
        journal.close()
    return EXIT_CONFLICTS if kept else int(details["status"])


def print_kept(paths: Sequence[str]) -> None:
    """Print that files stay, because somebody has changed them since the update wrote or read them.

    Args:
        paths: The files' paths.
    """
    for path in paths:
        print(f"{path}: you changed it since the update, so it stays.", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UpdateError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
