"""`just update`: takes over a newer version of the template. Runs beside Copier, not in the service's environment.

Copier renders the version that this service is from and the one that it shall have; `merge.py` of the new one makes
one of them and of what is here, by git. Nothing is written before that is done.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
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
ELSEWHERE = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"}
"""Variables by which git looks elsewhere than in this folder."""
NO_ANSWERS: Mapping[str, Any] = {}


class UpdateRefused(Exception):
    """The message says why, and what to do."""


class NothingNew(Exception):
    """The message says so."""


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
    told = re.findall(r"(?:fatal|error): .*", text) or [
        line for line in text.splitlines() if line.strip()
    ]
    return told[-1].strip() if told else "failed"


def find_answers(named: str | None) -> Path:
    """The file that says which template this service is from, and which answers were given.

    Raises:
        UpdateRefused: There is none, or there are several.
    """
    if named and (Path(named).is_absolute() or ".." in Path(named).parts):
        raise UpdateRefused(f"--answers-file {named}: name it as it lies below this folder")
    if named or Path(ANSWERS).exists():
        return Path(named or ANSWERS)
    found = [
        path for path in Path().glob("*.y*ml") if "_src_path:" in path.read_text(errors="replace")
    ]
    if len(found) != 1:
        if found:
            raise UpdateRefused(
                f"say with --answers-file which one it is: {', '.join(map(str, found))}"
            )
        how = f"`git log -- {ANSWERS}` finds a commit that has it, for `git restore --source=COMMIT {ANSWERS}`"
        raise UpdateRefused(f"{ANSWERS} is gone; {how}")
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
        raise UpdateRefused(
            f"{path} cannot be read, `git log -p {path}` shows how it was: {reason}"
        ) from None
    if not isinstance(answers, dict) or not all(
        isinstance(answers.get(key), str) for key in ("_src_path", "_commit")
    ):
        raise UpdateRefused(
            f"{path} does not say _src_path and _commit; `git log -p {path}` shows how it was"
        )
    source = Path(answers["_src_path"]).expanduser()
    if ":" not in answers["_src_path"] and (not source.exists() or source.resolve() == Path.cwd()):
        raise UpdateRefused(
            f"there is no template at {source}; change _src_path in {path} to where it is, and commit"
        )
    return answers


def check_project() -> None:
    """Refuse where an update could not be told from the user's own changes.

    Raises:
        UpdateRefused: This is no git repository, or something is not committed.
    """
    if elsewhere := sorted(os.environ.keys() & ELSEWHERE):
        raise UpdateRefused(f"git is told to look elsewhere: unset {' '.join(elsewhere)}")
    try:
        git("rev-parse", "--verify", "--quiet", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=normal", "--", ".").splitlines()
    except UpdateRefused:
        reason = (
            "updates need git, to merge and to be undone: git init && git add --all && git commit"
        )
        raise UpdateRefused(reason) from None
    if changed:
        names = ", ".join(line[3:] for line in changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise UpdateRefused(
            f"commit your changes first (or `git stash -u`), so that you can undo the update: {names}"
        )


def show_news(answers_file: Path) -> int:
    """Tell whether there is a newer version.

    Returns:
        0 where there is none, 5 where there is one, as `copier check-update` does.

    Raises:
        UpdateRefused: The template cannot be reached.
    """
    command = [
        sys.executable,
        "-m",
        "copier",
        "check-update",
        "--output-format=json",
        "-a",
        str(answers_file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise UpdateRefused(last_line(done.stderr)) from None
    if not found["update_available"]:
        print(f"{found['current_version']} is the newest version")
        return 0
    print(
        f"{found['latest_version']} is there, this service is from {found['current_version']}: just update"
    )
    return 5


def parse_answer(text: str) -> tuple[str, str]:
    """`name=value`, as on Copier's own command line."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not like enable_job_queue=false")
    return name, value


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


def check_answers(
    before: Mapping[str, Any], chosen: argparse.Namespace, after: Mapping[str, Any]
) -> None:
    """Refuse where Copier says nothing.

    Args:
        before: What the answers file holds.
        chosen: The command line, with other answers.
        after: What the answers file of the new version holds.

    Raises:
        UpdateRefused: There is no such question, or an answer was rejected unasked.
    """
    data = dict(chosen.data)
    if unknown := data.keys() - after.keys():
        raise UpdateRefused(f"--data: the template asks for no {', '.join(sorted(unknown))}")
    for name in before.keys() & after.keys() - data.keys():
        if chosen.defaults and not name.startswith("_") and before[name] != after[name]:
            raise UpdateRefused(
                f"the answer {name}: {before[name]!r} is refused; give another: --data {name}=..."
            )


def render_both(
    answers_file: Path, answers: Mapping[str, Any], chosen: argparse.Namespace, folder: Path
) -> tuple[Path, Path, str]:
    """Render the version that the service is from, and the one that it shall have.

    Args:
        answers_file: Its name.
        answers: What it holds.
        chosen: The command line.
        folder: An empty folder.

    Returns:
        Where each of the two is, and from which version to which the update goes.

    Raises:
        UpdateRefused: As `render`, and where the version that was named is older, or rejects an answer.
        NothingNew: The newest version is older.
    """
    text = answers_file.read_text(encoding="utf-8")
    version = VcsRef.CURRENT if chosen.to == "current" else chosen.to
    # Another process renders the old one meanwhile, and leaves Ctrl-C to this one.
    with ProcessPoolExecutor(
        1, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        old = pool.submit(render, text, answers_file, folder / "old")
        new = render(
            text, answers_file, folder / "new", version, dict(chosen.data), chosen.defaults
        )
        found = read_answers(new / answers_file)
        steps = f"from {answers['_commit']} to {found['_commit']}"
        before, after = order(answers["_commit"]), order(found["_commit"])
        if before and after and after < before:
            if chosen.to:
                raise UpdateRefused(f"{steps} would be a step back; nothing was changed")
            raise NothingNew(
                f"There is nothing new: {answers['_commit']} is newer than {found['_commit']}."
            )
        check_answers(answers, chosen, found)
        return old.result(), new, steps


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
    untracked = untracked_files()
    try:
        done = subprocess.run(command, check=False)
        if done.returncode not in (0, NEEDS_A_PERSON):
            raise UpdateRefused(
                "core/dev/merge.py of the new version failed, as told above; nothing was changed"
            )
        shutil.copy(new / answers_file, answers_file)
    except BaseException:
        undo(answers_file)
        for name in untracked_files() - untracked:
            Path(name).unlink()
        raise
    return done.returncode == 0


def untracked_files() -> set[str]:
    """Those below `core/` that git neither knows nor ignores."""
    return {
        *filter(None, git("ls-files", "-z", "--others", "--exclude-standard", "core").split("\0"))
    }


def undo(answers_file: Path) -> None:
    """Bring back what an update may have changed; it was committed."""
    paths = [str(answers_file), *(["core"] if git("ls-tree", "HEAD", "core") else [])]
    git("reset", "--quiet", "--", *paths)
    git("restore", "--", *paths)


def update(chosen: argparse.Namespace) -> int:
    """Do what the command line says.

    Returns:
        The exit status: 0; 1 where the lock is not up to date; 4 where files need a person; 5 where there is news.

    Raises:
        UpdateRefused: It could not be done, and nothing was changed.
    """
    answers_file = find_answers(chosen.answers_file)
    answers = read_answers(answers_file)
    if chosen.check:
        return show_news(answers_file)
    check_project()
    is_merged = None
    try:
        with TemporaryDirectory(prefix="update.") as folder:
            old, new, steps = render_both(answers_file, answers, chosen, Path(folder))
            check_project()  # once more, since questions take their time
            is_merged = merge(old, new, answers_file)
        if not is_merged:
            return NEEDS_A_PERSON
        if not git("status", "--porcelain", "--", "."):
            print(f"There is nothing new, {steps}.")
            return 0
        print(f"Updated, {steps}: `git diff` shows it.")
        return relock()
    except NothingNew as told:
        print(told)
        return 0
    except KeyboardInterrupt:
        if is_merged is None:
            raise
        print(f"The update is done, but for {LOCK}: run `uv lock`.", file=sys.stderr)
        return 1


def relock() -> int:
    """Bring the lock up to date: the one file outside of `core/` that an update writes.

    Returns:
        The exit status: 0; 1 where it is not up to date.
    """
    if not Path(LOCK).exists():
        return 0
    command = [os.environ.get("UV", "uv"), "lock", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        failure = last_line(done.stderr) if done.returncode else None
    except OSError as error:
        failure = str(error)
    if failure:
        print(
            f"The update is done, but {LOCK} is as it was ({failure}): run `uv lock`.",
            file=sys.stderr,
        )
        return 1
    if git("status", "--porcelain", "--", LOCK):
        print(f"{LOCK} follows the dependencies of core/; `uv sync` installs them.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Update, and say in one line what went wrong."""
    parser = argparse.ArgumentParser(
        prog="just update", description="Take over a newer version of the template."
    )
    parser.add_argument(
        "--check", action="store_true", help="only tell whether there is one; ends with 5 then"
    )
    parser.add_argument(
        "--to", metavar="VERSION", help="a tag of the template, not the newest; `current` for none"
    )
    parser.add_argument(
        "--data",
        type=parse_answer,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an answer",
    )
    parser.add_argument("--defaults", action="store_true", help="ask nothing")
    parser.add_argument("--answers-file", help=f"where it is not {ANSWERS}")
    warnings.simplefilter("ignore", CopierWarning)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # all is undone, as after Ctrl-C
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
