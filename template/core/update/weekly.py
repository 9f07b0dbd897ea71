"""The commands of the weekly workflow: `core/update.sh weekly look` and `... weekly merge`.

The workflow is a file of the service, so an update cannot correct it. It therefore decides little:
`look` prints the outputs of a step, and `merge` writes everything that the next job pushes.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from core.update import EXIT_CONFLICTS, EXIT_FAILED
from core.update.answers import find_answers_file, read_answers
from core.update.git import Repository, UpdateError
from core.update.sources import explain
from core.update.versions import find_versions

BRANCH = "core-update"
"""The branch in the bundle. The other job gives it the name that `look` printed."""
EMAIL = "update@users.noreply.github.com"
"""The address by which the other job knows the commits of this command."""
IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "update"), ("EMAIL", EMAIL))
}
MERGED = (0, 1, EXIT_CONFLICTS)
"""The statuses of `just update` that leave something to propose. With 1, the lock is outdated."""
MAX_BODY = 60_000
"""The maximum length of a pull request's text. GitHub refuses more than 65,536 characters."""

UNREACHABLE = (
    "The weekly update cannot reach the template at {source}, because {reason}."
    " In {answers_file}, set _src_path to a URL that GitHub can reach, such as https://..."
    " Or delete .github/workflows/update.yml."
)
CHECKS = """\
| `just ci` | result |
|---|---|
| before the update | {before} |
| after the update | {after} |

{run}GitHub starts no CI for the pull request of a workflow. To start it, close and reopen this one.

"""
CONFLICTS = """\
**Git could not merge these files, so this branch is not ready.** Some have conflict marks.

{files}

To resolve them, make a branch from the default branch on your machine. There, \
`uv run just update` stops at the same files and says what to do. Push the result with \
`git push --force origin HEAD:{branch}`.

"""
PROBLEMS = """\
~~~text
{problems}
~~~

"""
CUT = "\n\nThe rest is in `core/CHANGELOG.md` of this branch."


def find_obstacle(answers_file: Path) -> str | None:
    """Return why this machine cannot reach the template, if that is certain.

    Args:
        answers_file: The path of the service's answers file.
    """
    try:
        answers = yaml.safe_load(answers_file.read_text(encoding="utf-8"))
        source = str(answers["_src_path"])
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return None  # `read_answers` explains these
    reason = None
    if source.startswith(("git@", "ssh://")):
        has_key = {"SSH_AUTH_SOCK", "GIT_SSH_COMMAND"} & os.environ.keys()
        reason = None if has_key else "the workflow has no SSH key"
    elif _is_missing_folder(source):
        reason = "that is a folder of another machine"
    return reason and UNREACHABLE.format(source=source, reason=reason, answers_file=answers_file)


def _is_missing_folder(source: str) -> bool:
    path = source.removeprefix("file://")
    if ":" in path:
        return False
    folder = Path(path).expanduser()
    return not folder.exists() or folder.resolve() == Path.cwd()


def look() -> dict[str, str]:
    """Look for a newer version.

    Returns:
        The outputs for the workflow: a branch for the newer version and the path of the answers
        file, or a problem that stays until a person solves it, or nothing.

    Raises:
        UpdateError: The answers file cannot be read, or the template cannot be reached.
    """
    answers_file = find_answers_file(None)
    problem = find_obstacle(answers_file)
    if problem:
        return {"problem": problem}
    read_answers(answers_file)
    versions = find_versions(answers_file)
    if not versions.is_newer:
        return {}
    return {"branch": f"update-{versions.latest}", "answers_file": str(answers_file)}


def merge(folder: Path, branch: str) -> None:
    """Update, commit the result to a branch, and run the checks without the update and with it.

    Args:
        folder: The folder to create. It gets the bundle with the branch, the title and the text of
            the pull request, and a file `draft` if a person has to do something first.
        branch: The name that the branch gets.

    Raises:
        UpdateError: The update failed. Its own message is printed before.
    """
    service = Repository(Path(), IDENTITY)
    base = service.text("rev-parse", "HEAD")
    done = _update()
    unmerged = service.entries("diff", "--name-only", "--diff-filter=U", "-z")
    title = f"Update from the template to {read_answers(find_answers_file(None))['_commit']}"
    folder.mkdir(parents=True)
    _bundle(service, title, folder.resolve() / "update.bundle")
    text, is_draft = _test(service, base, done)
    if done.returncode == EXIT_CONFLICTS:
        files = "\n".join(f"- `{name}`" for name in unmerged)
        text += CONFLICTS.format(files=files, branch=branch)
    if done.stderr.strip():
        text += PROBLEMS.format(problems=done.stderr.strip("\n"))
    (folder / "title.txt").write_text(title, encoding="utf-8")
    (folder / "body.md").write_text(cut(text + done.stdout), encoding="utf-8")
    if is_draft:
        (folder / "draft").touch()


def _update() -> "subprocess.CompletedProcess[str]":
    command = ["sh", "core/update.sh", "--defaults"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, sep="", flush=True)
    if done.returncode not in MERGED:
        raise UpdateError(f"the update ended with status {done.returncode}.")
    return done


def _bundle(service: Repository, title: str, path: Path) -> None:
    """Commit all files, also those with conflict marks, and write the commit to a bundle."""
    service.git("add", "--all")
    service.git("switch", "--quiet", "--create", BRANCH)
    service.git("commit", "--quiet", "--message", f"chore: {title[0].lower()}{title[1:]}")
    service.git("bundle", "create", "--quiet", str(path), f"{BRANCH}~..{BRANCH}")


def _test(
    service: Repository, base: str, update: "subprocess.CompletedProcess[str]"
) -> tuple[str, bool]:
    """Return a text with the results of the checks, and whether the pull request is a draft."""
    before = _run_checks(service, base)
    has_conflicts = update.returncode == EXIT_CONFLICTS
    after = "not run" if has_conflicts else _run_checks(service, BRANCH)
    return CHECKS.format(before=before, after=after, run=_link_run()), after != "passed"


def _run_checks(service: Repository, commit: str) -> str:
    """Run the checks of CI on a commit, and return a word for the result."""
    service.git("switch", "--quiet", "--force", "--detach", commit)
    print(f"::group::just ci on {service.text('log', '-1', '--format=%h %s')}", flush=True)
    command = [os.environ.get("UV", "uv"), "run", "just", "ci"]
    status = subprocess.run(command, check=False).returncode
    print("::endgroup::", flush=True)
    return "failed" if status else "passed"


def _link_run() -> str:
    run = os.environ.get("GITHUB_RUN_ID")
    if not run:
        return ""
    address = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    return f"[The run]({address}/actions/runs/{run}) has the output. "


def cut(text: str) -> str:
    """Return a text that GitHub accepts as the text of a pull request.

    Args:
        text: The complete text. A long changelog at its end may make it too long.
    """
    return text if len(text) <= MAX_BODY else text[: MAX_BODY - len(CUT)] + CUT


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands, and print an error as one line.

    Args:
        arguments: `look`, or `merge FOLDER BRANCH`.

    Returns:
        The exit status: 0, or 2 if the command failed.
    """
    try:
        match arguments:
            case ["look"]:
                for name, value in look().items():
                    print(f"{name}={value}")
                    print(f"{name}: {value}", file=sys.stderr)
            case ["merge", folder, branch]:
                merge(Path(folder), branch)
            case _:
                raise UpdateError("give `look`, or `merge FOLDER BRANCH`.")
    except (UpdateError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return EXIT_FAILED
    return 0
