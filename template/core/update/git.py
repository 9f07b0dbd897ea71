"""Git commands and their errors. Standard library only."""

import os
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

REDIRECTIONS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"}
"""Environment variables that point git to another repository."""


class UpdateError(Exception):
    """An update that failed or was refused. The message gives the reason and what to do."""


class Repository:
    """A git repository. Each method raises UpdateError if its git command fails.

    Args:
        folder: The repository's folder, or a folder inside it. Commands run there.
        environment: Variables for git, added to the environment of this process.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.environment = {**os.environ, **(environment or {})}

    def git(
        self,
        *arguments: str,
        data: bytes = b"",
        check: bool = True,
    ) -> bytes:
        """Run a git command and return its output.

        Args:
            arguments: The command and its arguments.
            data: The command's standard input.
            check: Whether to raise UpdateError if the command fails.
        """
        done = subprocess.run(  # nosec B607  # git is found on PATH
            ["git", *arguments],
            cwd=self.folder,
            env=self.environment,
            input=data,
            capture_output=True,
            check=False,
        )
        if check and done.returncode:
            command = next(each for each in arguments if not each.startswith("-"))
            raise UpdateError(f"git {command}: {failure_reason(os.fsdecode(done.stderr))}")
        return done.stdout

    def text(self, *arguments: str) -> str:
        """Run a git command with these arguments and return its output as text."""
        return os.fsdecode(self.git(*arguments)).removesuffix("\n")

    def git_path(self, name: str) -> Path:
        """Return the path of a file in git's folder."""
        return self.folder / self.text("rev-parse", "--git-path", name)

    def git_with_paths(self, paths: Collection[str], *arguments: str) -> None:
        """Run a git command with these arguments for some files. Without a path, do nothing."""
        if paths:
            listed = os.fsencode("".join(f"{path}\0" for path in paths))
            options = ("--pathspec-from-file=-", "--pathspec-file-nul")
            self.git("--literal-pathspecs", *arguments, *options, data=listed)

    def entries(self, *arguments: str) -> list[str]:
        """Run a git command with these arguments, including `-z`, and return what it lists."""
        return [os.fsdecode(entry) for entry in self.git(*arguments).split(b"\0") if entry]


def check_environment() -> None:
    """Check that git works on the repository of the current folder. A git hook may have another.

    Raises:
        UpdateError: An environment variable points git to another repository or index.
    """
    redirections = sorted(os.environ.keys() & REDIRECTIONS)
    if redirections:
        raise UpdateError(f"git points to another repository. Unset {' '.join(redirections)}.")


def failure_reason(stderr: str) -> str:
    """Return the line of a command's error output (`stderr`) that best explains the failure."""
    errors = re.findall(r"(?:fatal|error): .*", stderr)
    lines = errors or stderr.strip().splitlines() or ["no reason given"]
    return lines[-1].strip()
