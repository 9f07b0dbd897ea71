"""Renders the two versions of `core/` that an update compares."""

import argparse
import re
import signal
import sys
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from copier import VcsRef, run_recopy
from copier.errors import DirtyLocalWarning
from plumbum import ProcessExecutionError

from core.update.git import UpdateError, failure_reason
from core.update.sources import NO_ROOM, UNKNOWN_VERSION, explain_version

UNCOMMITTED = (
    "the template's folder has changes that are not committed."
    " Commit them there, or choose a version with --to."
)
COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
MOVED_TAG = (
    "The template has moved the tag {version}, and no longer has the commit {commit} that this"
    " service is from. So the update may report conflicts in lines that you did not change."
)


def render(
    answers: str,
    answers_file: Path,
    folder: Path,
    version: str | VcsRef | None = VcsRef.CURRENT,
    data: Mapping[str, Any] = MappingProxyType({}),
    defaults: bool = True,
    everything: bool = False,
) -> Path:
    """Render `core/` and the answers file, and return the folder.

    Args:
        answers: The text of an answers file. It names the template.
        answers_file: The path of that file, relative to the service's folder.
        folder: The folder to create.
        version: The version to render. Defaults to the one in `answers`. None is the newest.
        data: Answers that replace those in the file.
        defaults: Whether to answer new questions with their defaults, without asking.
        everything: Whether to render the files outside `core/` too.

    Raises:
        UpdateError: The template or the version cannot be fetched.
        copier.errors.CopierError: Copier cannot render it for another reason.
        ValueError: An answer is not valid.
    """
    (folder / answers_file).parent.mkdir(parents=True, exist_ok=True)
    (folder / answers_file).write_text(answers, encoding="utf-8")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DirtyLocalWarning)  # its version would exist nowhere
            run_recopy(
                folder,
                data=dict(data),
                answers_file=str(answers_file),
                vcs_ref=version,
                # An update does not need these files, and rendering them is slow.
                exclude=[] if everything else ["/app", "/tests", "/.*", f"!/{answers_file}"],
                defaults=defaults,
                skip_answered=True,
                overwrite=True,
                quiet=True,
            )
    except DirtyLocalWarning:
        raise UpdateError(UNCOMMITTED) from None
    except ProcessExecutionError as error:
        raise _explain(error, answers_file) from None
    except ValueError as error:
        if version is not VcsRef.CURRENT:
            raise
        raise UpdateError(explain_version(str(error), answers_file)) from None
    return folder


def render_current(
    answers: str, answers_file: Path, folder: Path, everything: bool = False
) -> Path:
    """Render the version that the service is from, and return the folder.

    The answers name a tag and its commit. Only the commit cannot move.

    Args:
        answers: The text of the service's answers file.
        answers_file: As in `render`.
        folder: As in `render`.
        everything: As in `render`.

    Raises:
        UpdateError, copier.errors.CopierError, ValueError: As in `render`.
    """
    content = yaml.safe_load(answers)
    version, commit = content["_commit"], content.get("_commit_hash")
    if not COMMIT.fullmatch(str(commit)):
        return render(answers, answers_file, folder, everything=everything)
    try:
        return render(answers, answers_file, folder, commit, everything=everything)
    except ValueError as error:
        if not UNKNOWN_VERSION.search(str(error)):
            raise
    rendered = render(answers, answers_file, folder, everything=everything)
    print(MOVED_TAG.format(version=version, commit=commit), file=sys.stderr)
    return rendered


def _explain(error: ProcessExecutionError, answers_file: Path) -> UpdateError:
    reason = failure_reason(error.stderr)
    if "could not set 'core." in reason:
        # git may not say why. In the new folder of a clone, only the disk can be the reason.
        return UpdateError(f"{reason}: {NO_ROOM[0]}")
    if any(text in error.stderr for text in NO_ROOM):
        return UpdateError(reason)
    hint = f"If the template has moved, change _src_path in {answers_file}, then commit."
    return UpdateError(f"{reason}. {hint}")


def render_both(answers_file: Path, options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Render the service's version and the one to update to, and return their folders.

    Args:
        answers_file: The path of the answers file.
        options: The command line.
        folder: An empty folder.

    Raises:
        UpdateError, copier.errors.CopierError, ValueError: As in `render`.
    """
    answers = answers_file.read_text(encoding="utf-8")
    version = VcsRef.CURRENT if options.to == "current" else options.to
    data = dict(options.data)
    # A second process renders the old version at the same time. It leaves Ctrl-C to this one.
    ignore_ctrl_c = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(1, initializer=signal.signal, initargs=ignore_ctrl_c) as pool:
        everything = options.show_app
        old = pool.submit(render_current, answers, answers_file, folder / "old", everything)
        new = render(
            answers,
            answers_file,
            folder / "new",
            version,
            data,
            options.defaults,
            everything,
        )
        return old.result(), new
