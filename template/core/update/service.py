"""The service that is updated."""

import os
import subprocess
import sys
from pathlib import Path

from core.update import EXIT_CONFLICTS, EXIT_FAILED, LOCK
from core.update.git import (
    Repository,
    UpdateError,
    check_environment,
    failure_reason,
)
from core.update.journal import Journal
from core.update.merge_repository import CORE
from core.update.sources import UNTRUSTED

EXIT_STOPPED = 130
EXIT_LOCK_OUTDATED = 1


class Service(Repository):
    """The service in the current folder.

    Args:
        answers_file: The path of its answers file.
    """

    def __init__(self, answers_file: Path) -> None:
        super().__init__(Path())
        self.answers_file = answers_file
        self._merging: subprocess.Popen[bytes] | None = None

    def check_repository(self) -> None:
        """Check that the current folder is in a git repository with a commit.

        Raises:
            UpdateError: It is not, or git points to another repository.
        """
        check_environment()
        try:
            self.git("rev-parse", "--verify", "HEAD")
        except UpdateError as error:
            if UNTRUSTED.search(str(error)):
                raise
            command = "git init && git add --all && git commit"
            raise UpdateError(f"an update needs a git repository. Run: {command}") from None
        if (self.folder / CORE).is_symlink():
            raise UpdateError(f"{CORE} is a link. Replace it with the folder that it leads to.")

    def check_clean(self) -> None:
        """Check that all changes are committed, so that an update can be undone.

        Raises:
            UpdateError: There are changes after the last commit.
        """
        status = self.text("status", "--porcelain", "--untracked-files=normal", "--", ".")
        lines = status.splitlines()
        conflicts = [line[3:] for line in lines if "U" in line[:2] or line[:2] in ("AA", "DD")]
        if conflicts:
            hint = "Resolve them and commit, or take the last update back: `just update --undo`."
            raise UpdateError(f"these files have conflicts: {', '.join(conflicts)}. {hint}")
        names = [line[3:] for line in lines]
        if names:
            shown = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
            hint = "Commit your changes first (or run `git stash -u`), so you can undo the update."
            raise UpdateError(f"changes are not committed: {shown}. {hint}")

    def find_head(self) -> str:
        """Return the hash of the last commit."""
        return self.text("rev-parse", "HEAD")

    def read_committed(self, path: Path) -> str:
        """Return the text of a file in the last commit, or of the file itself if git has none."""
        text = self.git("show", f"HEAD:./{path.as_posix()}", check=False)
        return text.decode() or path.read_text(encoding="utf-8")

    def check_unchanged(self, head: str) -> None:
        """Check that nobody has changed the service since.

        Args:
            head: The value that `find_head` returned before.

        Raises:
            UpdateError: There is another commit, or there are changes that are not committed.
        """
        if self.find_head() != head:
            raise UpdateError("somebody has committed during the update. Run it again.")
        self.check_clean()

    def merge(self, old: Path, new: Path, *options: str) -> int:
        """Merge the new version into the service, with that version's own code.

        Args:
            old: The folder with the rendered version that the service is from.
            new: The folder with the rendered version to update to.
            *options: `--dry-run` or `--names` only print what would change.

        Returns:
            The exit status: 0, 2 if it failed and has printed why, or 3 if there are conflicts.

        Raises:
            UpdateError: The merge failed or was interrupted.
            KeyboardInterrupt: The merge was stopped. `has_merged` shows whether it changed files.
        """
        script = new / "core" / "update" / "merge.py"
        command = [
            sys.executable,
            str(script),
            str(old),
            str(new),
            str(self.answers_file),
            *options,
        ]
        merging = subprocess.Popen(command)
        if not options:
            self._merging = merging
        status = _wait(merging)
        if status == EXIT_STOPPED:
            raise KeyboardInterrupt
        Journal(self).check()
        if status not in (0, EXIT_FAILED, EXIT_CONFLICTS):
            raise UpdateError("merge.py of the new version failed. Nothing was changed.")
        return status

    def has_merged(self) -> bool:
        """Return whether `merge` has changed the service, also if it was stopped afterwards."""
        return self._merging is not None and _wait(self._merging) in (0, EXIT_CONFLICTS)

    def update_lock(self) -> int:
        """Update uv.lock, and return the exit status: 0, or 1 if it is still outdated."""
        if not Path(LOCK).exists():
            return 0
        command = [os.environ.get("UV", "uv"), "lock", "--quiet"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            return report_outdated_lock(str(error))
        if done.returncode:
            return report_outdated_lock(failure_reason(done.stderr))
        if self.git("status", "--porcelain", "--", LOCK):
            Journal(self).note_change(LOCK)
            print(f"{LOCK} has the new dependencies of core/. Run `uv sync` to install them.")
        return 0


def _wait(merging: "subprocess.Popen[bytes]") -> int:
    while (status := merging.poll()) is None:
        try:
            merging.wait()
        except KeyboardInterrupt:
            merging.terminate()  # it stops, or finishes if it is already writing
    return status


def report_outdated_lock(reason: str) -> int:
    """Print why (the reason) uv.lock is outdated, and return the exit status."""
    message = f"The update is done, but {LOCK} is outdated ({reason}). Run `uv lock`."
    print(message, file=sys.stderr)
    return EXIT_LOCK_OUTDATED
