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
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.update import EXIT_CONFLICTS, EXIT_FAILED, LOCK
from core.update.git import Repository, UpdateError, check_environment
from core.update.sources import explain

NAME = "core-update"
ROOM = 2**20
"""Bytes that an update leaves free on the disk, for git's index."""
FOLDER = "folder"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = (
    "an update{place} from {before} to {after} was interrupted."
    " `just update --continue` finishes it, and `just update --undo` takes it back."
    " If just does not start, use `sh core/update.sh` instead."
)
MOVED_ON = (
    "this service is at {version} now, so the update from {before} to {after} can neither be"
    " finished nor taken back. Nothing was changed."
)
DAMAGED = (
    "{file} cannot be read, so the last update can neither be finished nor taken back."
    " {folder}/before has the files from before the update."
    " To continue without it, delete {folder}."
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

    @cached_property
    def _prefix(self) -> str:
        """The service's folder in its repository, with a slash at the end, or an empty text."""
        return self._service.text("rev-parse", "--show-prefix")

    def check(self) -> None:
        """Check that no update was interrupted.

        Raises:
            UpdateError: An update was interrupted.
        """
        journal = self.read()
        if journal and not journal["is_done"] and not self._find_other_version(journal):
            prefix = journal["prefix"] or "the root folder"
            place = "" if self._is_here(journal) else f" of {prefix}"
            raise UpdateError(INTERRUPTED.format(place=place, **journal))

    def read(self) -> dict[str, Any]:
        """Return the journal, or an empty dictionary if no update has a journal."""
        try:
            journal: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            problem = DAMAGED.format(file=self._file, folder=self.folder)
            raise UpdateError(problem) from None
        return journal

    def write(
        self,
        changes: Sequence[Change],
        code: Path,
        index: str,
        added: Sequence[str],
        check: Callable[[], None],
        **details: Any,
    ) -> None:
        """Write a new journal. From then on, the update can be finished.

        Args:
            changes: The changes, in their order.
            code: The folder with this package in the new version.
            index: The input for `git update-index -z --index-info`.
            added: The paths of new files that git ignores.
            check: Is called when all files are copied. It raises UpdateError if the service has
                changed since the merge. A later change is found by the copies.
            **details: `before` and `after`, the two versions; `answers_file`, the path;
                `report`, a text for the user; and `status`, the exit status.

        Raises:
            UpdateError: There is no room for the changes, or git's index is locked.
            OSError: A file cannot be written. Nothing has changed.
        """
        self._check_index()
        draft = self.folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            self._write_draft(draft, changes, code, details | {"index": index, "added": [*added]})
            check()
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._delete()
        draft.rename(self.folder)

    def _write_draft(
        self, draft: Path, changes: Sequence[Change], code: Path, details: Mapping[str, Any]
    ) -> None:
        shutil.copytree(code, draft / "core" / "update", ignore=shutil.ignore_patterns("*.pyc"))
        for side in ("before", "after"):
            (draft / side).mkdir()
        files = []
        for number, change in enumerate(changes):
            target = self._service.folder / change.path
            marks: dict[str, str | None] = {}
            for side, path in (("before", target), ("after", change.source)):
                mark = find_mark(path) if path else None
                marks[side] = None if mark == FOLDER else mark  # removed by an earlier change
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
                "prefix": self._prefix,
                "files": files,
                "is_done": False,
            },
        )

    def _delete(self) -> None:
        """Delete the journal. If this is interrupted, the rest is not read as a journal."""
        old = self.folder.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)

    def finish(self) -> dict[str, str]:
        """Make the changes that are not made yet. The caller then reports, and calls `close`.

        Returns:
            A text for each path that somebody has changed since. It stays.

        Raises:
            UpdateError: No update was interrupted, git's index is locked, or a git command failed.
            OSError: A file cannot be written.
        """
        journal = self._load()
        if journal["is_done"]:
            raise UpdateError("the last update is complete. `just update --undo` takes it back.")
        self._check_index()
        self._record_conflicts(journal)  # first, because git fails if its index is locked
        _, kept = self._replace(journal["files"], "before", "after")
        added = [path for path in journal["added"] if path not in kept]
        self._service.git_with_paths(added, "add", "--force", "--intent-to-add")
        return {path: self._describe_kept(file) for path, file in kept.items()}

    def _record_conflicts(self, journal: dict[str, Any]) -> None:
        """Record the conflicts in git's index, except in files that somebody has changed since."""
        marks = {
            journal["prefix"] + file["path"]: (file["before"], file["after"], FOLDER)
            for file in journal["files"]
        }
        top = self._service.folder / (self._service.text("rev-parse", "--show-cdup") or ".")
        lines = [
            f"{line}\0"
            for line, path in _split_index(journal)
            if path not in marks or find_mark(top / path) in marks[path]
        ]
        if lines:
            data = os.fsencode("".join(lines))
            self._service.git("update-index", "-z", "--index-info", data=data)

    def _describe_kept(self, file: dict[str, Any]) -> str:
        after = self.folder / "after" / str(file["number"])
        action = f"has {after}" if file["after"] else "deletes it"
        return f"you changed it since the update began, so it stays. The update {action}"

    def close(self) -> None:
        """Note that the update is done. Until then, it counts as interrupted."""
        self._write_file(self._file, {**self._load(), "is_done": True})

    def undo(self) -> dict[str, str]:
        """Bring back the files as they were before the update, and delete the journal.

        Returns:
            A text for each path that somebody has changed since. It stays.

        Raises:
            UpdateError: There is no update to undo, it is committed, or git's index is locked.
            OSError: A file cannot be written. Then call it again.
        """
        journal = self._load()
        self._check_index()
        self._check_not_committed(journal)
        # Where the index has another content than the file, somebody has staged it.
        unstaged = {*self._service.entries("diff", "--name-only", "--relative", "-z")}
        self._write_file(self._file, {**journal, "is_done": False})
        replaced, kept = self._replace(journal["files"][::-1], "after", "before")
        conflicts = {path.removeprefix(self._prefix) for _, path in _split_index(journal)}
        paths = {
            *journal["added"],
            *conflicts,
            *(path for path in replaced if path not in unstaged),
        }
        self._service.git_with_paths(sorted(paths), "reset", "--quiet")
        self._delete()
        return dict.fromkeys(kept, "you changed it since the update, so it stays")

    def _check_not_committed(self, journal: dict[str, Any]) -> None:
        path = journal["answers_file"]
        marks = [file["after"] for file in journal["files"] if file["path"] == path]
        is_written = find_mark(self._service.folder / path) in marks
        is_tracked = self._service.entries("ls-files", "-z", "--", path)
        if is_written and is_tracked and not self._service.git("diff", "HEAD", "--", path):
            commit = self._service.text("log", "-1", "--format=%h", "--", path)
            problem = f"the update to {journal['after']} is committed."
            raise UpdateError(f"{problem} To take it back, run `git revert {commit}`.")

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
        if not self._is_here(journal):
            place = journal["prefix"] or "the root of the repository"
            raise UpdateError(f"the last update was made in {place}. Go there first.")
        version = self._find_other_version(journal)
        if version:
            raise UpdateError(MOVED_ON.format(version=version, **journal))
        return journal

    def _is_here(self, journal: dict[str, Any]) -> bool:
        return bool(journal["prefix"] == self._prefix)

    def _find_other_version(self, journal: dict[str, Any]) -> str | None:
        """Return the service's version if it has changed since the update, as by `git switch`."""
        answers_file = self._service.folder / journal["answers_file"]
        if not self._is_here(journal) or not answers_file.exists():
            return None
        version = read_version(answers_file)
        return None if version in (journal["before"], journal["after"]) else version

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
    ) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Replace old files with new ones. Return the replaced paths, and the files that stay."""
        replaced, kept = [], {}
        for file in files:
            path = file["path"]
            target = self._service.folder / path
            with suppress(OSError):
                _draft_of(target).unlink()  # of a run that was interrupted
            mark = find_mark(target)
            if mark == file[new]:
                continue
            if mark != file[old] or self._is_behind_link(path):
                kept[path] = file
                continue
            source = self.folder / new / str(file["number"])
            _put(target, source if file[new] else None)
            replaced.append(path)
        kept.pop(LOCK, None)  # `uv run` changes it before each command, and `uv lock` fixes it
        return replaced, kept

    def _is_behind_link(self, path: str) -> bool:
        return any(
            (self._service.folder / each).is_symlink() for each in PurePosixPath(path).parents
        )


def _split_index(journal: dict[str, Any]) -> list[tuple[str, str]]:
    """Return each line of the input for git's index, and its path in the repository."""
    lines = journal["index"].split("\0")[:-1]
    return [(line, line.split("\t", 1)[1]) for line in lines]


def ignore_stops() -> None:
    """Ignore the signals that stop a process. Half an update must not remain."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def read_version(answers_file: Path) -> str:
    """Return the version that an answers file names.

    Args:
        answers_file: The path of the file.
    """
    text = answers_file.read_text(encoding="utf-8") if answers_file.exists() else ""
    found = re.search(r"^_commit: (.*)$", text, re.MULTILINE)
    return found[1] if found else "an unknown version"


def find_mark(path: Path) -> str | None:
    """Return a text that identifies a file's kind and content, or None if there is nothing.

    Args:
        path: The path of a file, a link or a folder.
    """
    if path.is_symlink():
        return f"link {path.readlink()}"
    if not path.is_file():
        return FOLDER if path.is_dir() else None
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
    parser = argparse.ArgumentParser(prog="just update", allow_abbrev=False)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--continue", action="store_true", dest="finishes")
    group.add_argument("--undo", action="store_true")
    parser.add_argument("--answers-file", help="has no effect here")
    options = parser.parse_args()
    check_environment()
    service = Repository(Path.cwd())
    journal = Journal(service)
    if not (options.undo or options.finishes):
        journal.check()
        return 0
    with locked(service):
        ignore_stops()
        details = journal.read()
        if options.undo:
            kept = journal.undo()
            print("The update from {before} to {after} was taken back.".format(**details))
        else:
            kept = journal.finish()
            print("The update from {before} to {after} is finished.".format(**details))
            print(details["report"], end="", file=sys.stderr)
        print_kept(kept)
        if (service.folder / LOCK).exists():
            print("Next, run `uv lock`.")
        if options.finishes:
            journal.close()
    if kept:
        return EXIT_CONFLICTS
    return int(details["status"]) if options.finishes else 0


def print_kept(kept: Mapping[str, str]) -> None:
    """Print that files stay, because somebody has changed them since the update wrote or read them.

    Args:
        kept: A text for each path.
    """
    for path, text in kept.items():
        print(f"{path}: {text}.", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UpdateError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
