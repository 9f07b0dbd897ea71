"""The answers file: which template and version a service is from, and with which answers."""

import argparse
import re
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from core.update import ANSWERS_FILE, ENGINE, QUESTION
from core.update.git import UpdateError
from core.update.sources import check_source, find_unwritable_answer

REDIS = "redis"
"""The engine that keeps its jobs in Redis. The others keep them in MongoDB."""
LEFT_JOBS = (
    "Jobs that are left in the old engine do not move. To run them, take this update back with"
    " `just update --undo`, and run `just drain` before you repeat it."
)
GIVE_IT = "If yours has another name, give it with --answers-file."
RESTORE = (
    f"`git log -- {ANSWERS_FILE}` lists commits that have yours,"
    f" and `git restore --source=COMMIT {ANSWERS_FILE}` restores it."
)
Answers = dict[str, Any]


def find_answers_file(name: str | None) -> Path:
    """Return the path of the answers file.

    The folder may have answers files of other templates, too.

    Args:
        name: The path given on the command line, relative to the service's folder.

    Raises:
        UpdateError: No file was found, or more than one, or the file is of another template.
    """
    if name and (Path(name).is_absolute() or ".." in Path(name).parts):
        raise UpdateError(f"--answers-file {name} is outside this folder. Give a path inside it.")
    path = Path(name or ANSWERS_FILE)
    if not name:
        ours = [file for file in Path().glob("*.y*ml") if QUESTION in _read_keys(file)]
        if len(ours) == 1:
            return ours[0]
        if len(ours) > 1 and path not in ours:
            names = ", ".join(sorted(map(str, ours)))
            problem = f"there is more than one answers file: {names}."
            raise UpdateError(f"{problem} Choose one with --answers-file.")
    keys = _read_keys(path)
    if {"_src_path", "_commit"} <= keys and QUESTION not in keys:
        raise UpdateError(f"{path} belongs to another template. {GIVE_IT} {RESTORE}")
    if not name and not path.exists():
        raise UpdateError(f"{path} is missing. {RESTORE} {GIVE_IT}")
    return path


def _read_keys(path: Path) -> set[str]:
    """Return the keys of an answers file. Return an empty set for any other file."""
    if not path.is_file():
        return set()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    if "_src_path:" not in text:  # parsing a large YAML file takes long
        return set()
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return set()
    return {*content} if isinstance(content, dict) else set()


def read_answers(path: Path) -> Answers:
    """Return the content of an answers file.

    Args:
        path: The path of the file.

    Raises:
        UpdateError: The file cannot be read, or it names no template that exists.
    """
    if re.search(r"[][*?\\!]|^-", str(path)):
        raise UpdateError(f"{path}: rename the file, because patterns and options look like this.")
    history = f"`git log -p {path}` shows its earlier content."
    try:
        answers: Answers = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UpdateError(f"{path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UpdateError(f"{path} cannot be read. {history} {error}") from None
    for key in ("_src_path", "_commit"):
        if not isinstance(answers, dict) or not isinstance(answers.get(key), str):
            raise UpdateError(f"{path} has no {key}. {history}")
    unwritable = find_unwritable_answer(answers)
    if unwritable:
        raise UpdateError(f"{path}: the answer to {unwritable} is not valid text. {history}")
    check_source(answers["_src_path"], path)
    return answers


def list_answer_changes(before: Answers, after: Answers) -> list[str]:
    """Return a line for each question that is new or gone, and for each other answer.

    Args:
        before: The service's answers.
        after: The answers with which the new version was rendered.
    """
    added = sorted(name for name in after.keys() - before.keys() if name[0] != "_")
    gone = sorted(name for name in before.keys() - after.keys() if name[0] != "_")
    if not after[QUESTION]:
        gone = [name for name in gone if name != ENGINE]
    kept = sorted(name for name in before.keys() & after.keys() if name[0] != "_")
    changed = [name for name in kept if before[name] != after[name]]
    return [
        *(f"{name}: your answer was {before[name]!r}, and is {after[name]!r}." for name in changed),
        *([LEFT_JOBS] if ENGINE in changed and REDIS in (before[ENGINE], after[ENGINE]) else []),
        *(f"New question: {name}. The answer is {after[name]!r}." for name in added),
        *(
            f"The template no longer asks for {name}. Your answer {before[name]!r} has no effect."
            " If the question has a new name, answer it with --data NAME=ANSWER."
            for name in gone
        ),
    ]


def is_older(version: str, other: str) -> bool:
    """Return whether a version precedes the other one. Return False if either is not a version.

    Args:
        version: A tag like `v1.2.0`, or `v1.2.0-3-g1a2b3c4` for 3 commits after that tag.
        other: The same.
    """
    try:
        return _parse_version(version) < _parse_version(other)
    except InvalidVersion:
        return False


def _parse_version(described: str) -> Version:
    return Version(re.sub(r"-(\d+)-g[0-9a-f]+$", r".post\1", described))


def check_answers(before: Answers, after: Answers, options: argparse.Namespace) -> None:
    """Check for mistakes that Copier does not report.

    Args:
        before: The service's answers.
        after: The answers with which the new version was rendered.
        options: The command line.

    Raises:
        UpdateError: The version is older, a question does not exist, or an answer is not valid.
    """
    current, version = before["_commit"], after["_commit"]
    if is_older(version, current):
        raise UpdateError(f"this service is at {current}, and {version} is older. Nothing changed.")
    given = dict(options.data)
    unknown = sorted(given.keys() - after.keys())
    if unknown:
        raise UpdateError(f"--data: the template has no question {', '.join(unknown)}.")
    for name in before.keys() & after.keys() - given.keys():
        is_replaced = before[name] != after[name] and not name.startswith("_")
        if is_replaced and options.defaults:
            hint = f"Give a valid one with --data {name}=..."
            raise UpdateError(f"the answer {before[name]!r} to {name} is not valid. {hint}")
