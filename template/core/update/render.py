"""Renders the two versions of `core/` that an update compares."""

import argparse
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from copier import VcsRef, run_recopy
from plumbum import ProcessExecutionError

from core.update.git import UpdateError, failure_reason


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
    (folder / answers_file).parent.mkdir(parents=True)
    (folder / answers_file).write_text(answers, encoding="utf-8")
    try:
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
    except ProcessExecutionError as error:
        hint = f"If the template has moved, change _src_path in {answers_file}, then commit."
        raise UpdateError(f"{failure_reason(error.stderr)}. {hint}") from None
    return folder


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
        old = pool.submit(render, answers, answers_file, folder / "old", everything=everything)
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
