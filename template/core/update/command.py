"""An update. It runs in Copier's environment, not in the service's.

Copier renders two versions of `core/`: the service's, and the one to update to. `merge.py` of the
new version merges both with the service's files. No file changes until git has merged all of them.
"""

import argparse
import signal
import sys
import warnings
from concurrent.futures import BrokenExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from copier.errors import CopierError, CopierWarning

from core.update import EXIT_FAILED
from core.update.answers import (
    Answers,
    check_answers,
    find_answers_file,
    is_older,
    list_answer_changes,
    read_answers,
)
from core.update.git import UpdateError
from core.update.journal import Journal
from core.update.preview import print_app_changes, print_drift
from core.update.render import render_both, render_current
from core.update.service import Service, report_outdated_lock
from core.update.sources import explain

EXIT_NEWER_VERSION = 5


def _parse_answer(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not like enable_job_queue=false")
    return name, value


def _parse_options(arguments: list[str] | None) -> argparse.Namespace:
    description = "Update core/ to a newer version of the template."
    parser = argparse.ArgumentParser(
        prog="just update", description=description, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--check",
        action="store_true",
        help="only look for a newer version and list what it changes; exit with 5 if there is one",
    )
    add("--dry-run", action="store_true", help="only print what an update would change")
    add(
        "--to",
        metavar="VERSION",
        help="a tag, or `current`; defaults to the newest version",
    )
    add(
        "--data",
        type=_parse_answer,
        action="append",
        default=[],
        metavar="QUESTION=ANSWER",
    )
    add(
        "--show-app", action="store_true", help="only print what the template changed outside core/"
    )
    add("--drift", action="store_true", help="only print what you changed in core/")
    add("--undo", action="store_true", help="take the last update back")
    add(
        "--continue",
        action="store_true",
        dest="finishes",
        help="finish an update that was interrupted",
    )
    add("--defaults", action="store_true", help="ask no questions")
    add("--answers-file", help="defaults to .copier-answers.yml")
    return parser.parse_args(arguments)


def _update(options: argparse.Namespace) -> int:
    if options.undo or options.finishes:
        raise UpdateError("there is no update to finish or to undo.")
    answers_file = find_answers_file(options.answers_file)
    answers = read_answers(answers_file)
    service = Service(answers_file)
    service.check_repository()
    Journal(service).check()
    if options.check or options.dry_run or options.show_app or options.drift:
        options.defaults = True  # ask no questions
    else:
        service.check_clean()
    try:
        return _render_and_merge(service, answers, options)
    except KeyboardInterrupt:
        if not service.has_merged():
            raise
        return report_outdated_lock("stopped")


def _render_and_merge(
    service: Service,
    answers: Answers,
    options: argparse.Namespace,
) -> int:
    with TemporaryDirectory(prefix="update.") as temporary:
        folder = Path(temporary)
        (folder / "diff").mkdir()
        if options.drift:
            text = service.read_committed(service.answers_file)
            old = render_current(text, service.answers_file, folder / "old")
            print_drift(folder / "diff", service, old)
            return 0
        old, new = render_both(service.answers_file, options, folder)
        if options.show_app:
            print_app_changes(folder / "diff", old, new, service.answers_file)
            return 0
        new_answers = read_answers(new / service.answers_file)
        before, after = answers["_commit"], new_answers["_commit"]
        if is_older(after, before) and not options.to:
            print(f"Nothing to update: {before} is newer than the newest release, {after}.")
            return 0
        check_answers(answers, new_answers, options)
        is_same = before == after and not options.data
        if is_same and (options.check or options.dry_run):
            print(f"{before} is the newest version.")
            return 0
        for line in list_answer_changes(answers, new_answers):
            print(line, flush=True)
        if options.check or options.dry_run:
            if before != after:
                print(f"{after} is available. This service is at {before}.", flush=True)
            status = service.merge(old, new, "--dry-run" if options.dry_run else "--names")
            return status or (EXIT_NEWER_VERSION if options.check else 0)
        status = service.merge(old, new)
    if status:
        return status
    if not service.git("status", "--porcelain", "--", "."):
        print(f"Nothing to update from {before} to {after}.")
        return 0
    done = "Updated" if before == after else f"Updated from {before} to {after}"
    print(f"{done}. `git diff` shows the changes.")
    print("Next, run `just ci`. It also runs the tests of core/, because core/ has changed.")
    return service.update_lock()


def main(arguments: list[str] | None = None) -> int:
    """Update the service in the current folder, and print an error as one line.

    Args:
        arguments: The command line; defaults to the arguments of this process.

    Returns:
        The exit status: 0; 1 if only the lock is outdated; 2 if the update failed and changed
        nothing; 3 if there are conflicts; 5 if `--check` found a newer version.
    """
    warnings.simplefilter("ignore", CopierWarning)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # undo everything, as after Ctrl-C
    try:
        return _update(_parse_options(arguments))
    except KeyboardInterrupt:  # first, because Copier's own one is also a CopierError
        problem = "stopped, nothing was changed"
    except (
        UpdateError,
        CopierError,
        BrokenExecutor,
        ValueError,
        OSError,
    ) as error:
        problem = explain(error)
    print(f"error: {problem}", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
