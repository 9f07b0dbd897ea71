"""`just update`: takes over a newer version of the template. Runs beside Copier, not in the service's environment.

Copier renders the version that this service is from and the one that it shall have; `merge.py` of the new one makes
one of them and of what is here, by git. Nothing is written before that is done.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from copier import VcsRef, run_recopy
from copier.errors import CopierError, CopierWarning
from packaging.version import InvalidVersion, Version
from plumbum import ProcessExecutionError

ANSWERS = ".copier-answers.yml"
LOCK = "uv.lock"
NEEDS_A_PERSON = 4
"""With this status `merge.py` says which files could not be merged."""
NO_ANSWERS: Mapping[str, Any] = {}


class UpdateRefused(Exception):
    """The message says why, and what to do."""


def git(*arguments: str) -> str:
    """The output of a git command.

    Raises:
        UpdateRefused: It failed.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UpdateRefused(f"git {arguments[0]}: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    """The line of an error message that tells most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "failed")


def find_answers(named: str | None) -> Path:
    """The file that says which template this service is from, and which answers were given.

    Raises:
        UpdateRefused: There is none, or there are several.
    """
    if named or Path(ANSWERS).exists():
        return Path(named or ANSWERS)
    found = [path for path in Path().glob("*.y*ml") if "_src_path:" in path.read_text(errors="replace")]
    if len(found) != 1:
        what = f"several files could be it ({', '.join(map(str, found))})" if found else "it is gone"
        raise UpdateRefused(f"{ANSWERS}: {what}; `git checkout HEAD~1 -- {ANSWERS}` or --answers-file names it")
    return found[0]


def read_answers(path: Path) -> dict[str, Any]:
    """What the file holds.

    Raises:
        UpdateRefused: It cannot be used.
    """
    try:
        answers = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UpdateRefused(f"{path}: there is no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UpdateRefused(f"{path} cannot be read, `git log -p {path}` shows how it was: {reason}") from None
    if not isinstance(answers, dict) or not all(isinstance(answers.get(key), str) for key in ("_src_path", "_commit")):
        raise UpdateRefused(f"{path} does not say _src_path and _commit; `git log -p {path}` shows how it was")
    return answers


def check_project() -> None:
    """Refuse where an update could not be told from the user's own changes.

    Raises:
        UpdateRefused: This is no git repository, or something is not committed.
    """
    try:
        git("rev-parse", "--verify", "--quiet", "HEAD")
        changed = git("status", "--porcelain", "--", ".").splitlines()
    except UpdateRefused:
        reason = "updates need git, to merge and to be undone: git init && git add --all && git commit"
        raise UpdateRefused(reason) from None
    if changed:
        names = ", ".join(line[3:] for line in changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise UpdateRefused(f"commit or stash your changes first, so that you can undo the update: {names}")


def show_news(answers_file: Path) -> int:
    """Tell whether there is a newer version.

    Returns:
        0 where there is none, 5 where there is one, as `copier check-update` does.

    Raises:
        UpdateRefused: The template cannot be reached.
    """
    command = [sys.executable, "-m", "copier", "check-update", "--output-format=json", "-a", str(answers_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise UpdateRefused(last_line(done.stderr)) from None
    if not found["update_available"]:
        print(f"{found['current_version']} is the newest version")
        return 0
    print(f"{found['latest_version']} is there, this service is from {found['current_version']}: just update")
    return 5


def parse_answer(text: str) -> tuple[str, Any]:
    """`name=value`, as on Copier's own command line."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not like enable_job_queue=false")
    return name, yaml.safe_load(value)


def render(
    text: str,
    answers_file: Path,
    folder: Path,
    version: str | VcsRef | None = VcsRef.CURRENT,
    data: Mapping[str, Any] = NO_ANSWERS,
    defaults: bool = True,
) -> Path:
    """Render `core/` and the answers file.

    Args:
        text: What the answers file holds; it names the template too.
        answers_file: Its name.
        folder: Where to, a new folder.
        version: Which one, if not the one in the answers file; none for the newest.
        data: Answers instead of those in the file.
        defaults: Whether new questions are not asked.

    Raises:
        UpdateRefused: Template or version cannot be had.
        copier.errors.CopierError: Another reason not to render it.
        ValueError: An answer is refused.
    """
    (folder / answers_file).parent.mkdir(parents=True)
    (folder / answers_file).write_text(text, encoding="utf-8")
    try:
        run_recopy(
            folder,
            data=dict(data),
            answers_file=str(answers_file),
            vcs_ref=version,
            exclude=["/app", "/tests", "/.*", f"!/{answers_file}"],  # speed; only core/ is used
            defaults=defaults,
            skip_answered=True,
            overwrite=True,
            quiet=True,
        )
    except ProcessExecutionError as error:
        source = yaml.safe_load(text)["_src_path"]
        hint = f"where the template has moved, change _src_path in {answers_file} and commit"
        raise UpdateRefused(f"{source}: {last_line(error.stderr)}; {hint}") from None
    return folder


def order(described: str) -> tuple[Version, int] | None:
    """Where a version stands among others, if it is like `v1.2.0` or, 3 commits later, `v1.2.0-3-g1a2b3c4`."""
    tag, *distance = re.split(r"-(\d+)-g[0-9a-f]+$", described)
    try:
        return Version(tag), int(distance[0] if distance else 0)
    except InvalidVersion:
        return None


def check_answers(before: Mapping[str, Any], chosen: argparse.Namespace, after: Mapping[str, Any]) -> None:
    """Refuse where Copier says nothing.

    Args:
        before: What the answers file holds.
        chosen: The command line, with other answers.
        after: What the answers file of the new version holds.

    Raises:
        UpdateRefused: The new version is older, has no such question, or has rejected an answer unasked.
    """
    old, new = order(before["_commit"]), order(after["_commit"])
    if old and new and new < old:
        raise UpdateRefused(f"{after['_commit']} is older than {before['_commit']}, which this service is from")
    data = dict(chosen.data)
    if unknown := data.keys() - after.keys():
        raise UpdateRefused(f"--data: the template asks for no {', '.join(sorted(unknown))}")
    for name in before.keys() & after.keys() - data.keys():
        if chosen.defaults and not name.startswith("_") and before[name] != after[name]:
            raise UpdateRefused(f"the answer {name}: {before[name]!r} is refused; give another: --data {name}=...")


def merge(old: Path, new: Path, answers_file: Path) -> bool:
    """Make one of two versions and of what is here.

    Args:
        old: The version before the update, as it was rendered.
        new: The one after it.
        answers_file: Its name.

    Returns:
        Whether nothing is left to a person.

    Raises:
        UpdateRefused: It failed, and nothing was changed.
    """
    command = [sys.executable, str(new / "core" / "dev" / "merge.py"), str(old), str(new)]
    try:
        done = subprocess.run(command, check=False)
        if done.returncode not in (0, NEEDS_A_PERSON):
            raise UpdateRefused("core/dev/merge.py of the new version failed, as told above; nothing was changed")
        shutil.copy(new / answers_file, answers_file)
    except BaseException:
        undo()
        raise
    return done.returncode == 0


def undo() -> None:
    """Bring the project back to what it was; everything was committed."""
    git("reset", "--quiet", "--", ".")
    git("restore", "--", ".")
    git("clean", "--quiet", "--force", "-d", "--", "core")


def update(chosen: argparse.Namespace) -> int:
    """Do what the command line says.

    Returns:
        The exit status: 0; 1 where files need a person; 5 where there is news.

    Raises:
        UpdateRefused: It could not be done, and nothing was changed.
    """
    answers_file = find_answers(chosen.answers_file)
    answers = read_answers(answers_file)
    if chosen.check:
        return show_news(answers_file)
    check_project()
    source, text = answers["_src_path"], answers_file.read_text(encoding="utf-8")
    if ":" not in source and not Path(source).expanduser().exists():
        raise UpdateRefused(f"there is no template at {source}; change _src_path in {answers_file} and commit")
    with TemporaryDirectory(prefix="update.") as name:
        folder = Path(name)
        version = VcsRef.CURRENT if chosen.to == "current" else chosen.to
        new = render(text, answers_file, folder / "new", version, dict(chosen.data), chosen.defaults)
        check_answers(answers, chosen, read_answers(new / answers_file))
        old = render(text, answers_file, folder / "old")
        if not merge(old, new, answers_file):
            print(f"Then `uv lock`, which brings {LOCK} up to date.", file=sys.stderr)
            return 1
    relock()
    return 0


def relock() -> None:
    """Bring the lock up to date: the one file outside of `core/` that an update writes."""
    if not Path(LOCK).exists():
        return
    command = [os.environ.get("UV", "uv"), "lock", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{LOCK} is as it was, since `uv lock` failed: {last_line(done.stderr)}", file=sys.stderr)
    elif git("status", "--porcelain", "--", LOCK):
        print(f"{LOCK} follows the dependencies of core/; `uv sync` installs them.")


def main(arguments: list[str] | None = None) -> int:
    """Update, and say in one line what went wrong."""
    parser = argparse.ArgumentParser(prog="just update", description="Take over a newer version of the template.")
    parser.add_argument("--check", action="store_true", help="only tell whether there is one; ends with 5 then")
    parser.add_argument("--to", metavar="VERSION", help="this one instead of the newest; `current` for none")
    parser.add_argument(
        "--data", type=parse_answer, action="append", default=[], metavar="NAME=VALUE", help="an answer"
    )
    parser.add_argument("--defaults", action="store_true", help="ask nothing")
    parser.add_argument("--answers-file", help=f"where it is not {ANSWERS}")
    warnings.simplefilter("ignore", CopierWarning)
    try:
        return update(parser.parse_args(arguments))
    except UpdateRefused as error:
        problem = str(error)
    except KeyboardInterrupt:  # Copier's own is a CopierError, too
        problem = "stopped, nothing was changed"
    except (CopierError, ValueError, OSError) as error:
        problem = " ".join(str(error).split())
    print(f"error: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
