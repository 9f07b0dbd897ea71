"""The place of the template: why an update cannot read it, and what to do then."""

import errno
import os
import re
import subprocess
from concurrent.futures import BrokenExecutor
from pathlib import Path
from tempfile import gettempdir

from core.update.git import UpdateError

NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
NO_TEMPORARY_FOLDER = "No usable temporary directory"
UNTRUSTED = re.compile(r"dubious ownership in repository at '(.+)'")
UNKNOWN_VERSION = re.compile("Unknown revision: '(.+)'")


def check_source(source: str, answers_file: Path) -> None:
    """Check that a template in a folder can be read. A URL is not checked.

    Args:
        source: The place of the template, as the answers file names it.
        answers_file: The path of that file.

    Raises:
        UpdateError: The template cannot be read, or is not the root of a git repository.
    """
    folder = Path(source).expanduser()
    if ":" in source or folder.is_file():  # a file is a git bundle
        return
    remedy = f"Correct _src_path in {answers_file}, then commit."
    if not folder.is_absolute():
        remedy = f"The path is relative, and an update looks from here. {remedy}"
    if not folder.exists() or folder.resolve() == Path.cwd():
        raise UpdateError(f"no template was found at {folder}. {remedy}")
    command = ["git", "rev-parse", "--git-dir", "--show-prefix"]
    redirected = ("GIT_DIR", "GIT_WORK_TREE")
    environment = {name: value for name, value in os.environ.items() if name not in redirected}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    reason = os.fsdecode(done.stderr)
    if UNTRUSTED.search(reason):
        raise UpdateError(reason)
    prefix = done.stdout.splitlines()[1:]
    if done.returncode or any(prefix):
        raise UpdateError(
            f"{folder} is not a git repository, so it has no versions."
            f" Clone the template, and set _src_path in {answers_file} to the clone. Then commit."
        )


def find_unwritable_answer(answers: dict[str, object]) -> str | None:
    """Return the name of an answer that no file can contain: half a character, or broken bytes.

    Args:
        answers: The answers.
    """
    for name, answer in answers.items():
        try:
            str(answer).encode()
        except UnicodeEncodeError:
            return name
    return None


def explain_version(reason: str, answers_file: Path) -> str:
    """Return the reason for a failure. If the template lacks the service's version, explain that.

    Args:
        reason: The reason that Copier gave.
        answers_file: The path of the answers file, which names the service's version.
    """
    unknown = UNKNOWN_VERSION.search(reason)
    if not unknown:
        return reason
    version = unknown[1]
    tag = re.match(r"(.+)-\d+-g[0-9a-f]+$", version)
    known = f"{tag[1]}, the version before it" if tag else "a version or commit that it has"
    return (
        f"the template has no version {version}: the version has changes that were never committed,"
        f" or the template's history was rewritten. If {answers_file} names this version,"
        f" set _commit to {known}, and delete the line _commit_hash. Then commit."
    )


def explain(error: Exception) -> str:
    """Return one line that says what failed, and what to do.

    Args:
        error: The error that ended an update.
    """
    problem = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) and error.filename == "git":
        return "git is not on PATH. Install git, then run the update again."
    if untrusted := UNTRUSTED.search(problem):
        command = f"git config --global --add safe.directory '{untrusted[1]}'"
        owned = f"another user owns {untrusted[1]}, so git does not read it."
        return f"{owned} To trust it, run: {command}"
    if "Interactive session required" in problem:
        return "the new version asks a question. Add --defaults, or --data QUESTION=ANSWER."
    if isinstance(error, BrokenExecutor):
        return "the process that renders your version was ended. Run the update again."
    if any(text in problem for text in (*NO_ROOM, NO_TEMPORARY_FOLDER)):
        return f"{problem.rstrip('.')}. {_tell_where_to_make_room(error)}"
    return problem


def _tell_where_to_make_room(error: Exception) -> str:
    try:
        folder = gettempdir()
    except FileNotFoundError:
        folder = "the temporary folder"
    written = getattr(error, "filename", None)
    if written and not str(written).startswith(folder):
        return "Make room on the disk of the service, then run the update again."
    return f"Make room in {folder}, or set TMPDIR to another folder."
