"""Prints what an update would do."""

import sys
from collections.abc import Collection
from pathlib import Path

from core.update.git import Repository
from core.update.journal import Change, find_mark
from core.update.merge_repository import (
    CORE,
    ISOLATION,
    SERVICE_BRANCH,
    MergeRepository,
)
from core.update.plan import Plan


def print_plan(merged: MergeRepository, plan: Plan) -> None:
    """Print the files, grouped by what happens to them.

    Args:
        merged: The repository with the merged files.
        plan: The plan.
    """
    edited = merged.edited_paths() - {*plan.moved.values()} | plan.moved.keys()
    changed = {change.path for change in plan.changes if _is_change(merged.service, change)}
    changed -= {*plan.problems, *plan.moved.values()}
    problems = [f"{path}: {text}." for path, text in plan.problems.items()]
    _print_files("These files need you:", problems)
    notes = [f"{path}: {text}." for path, text in plan.notes.items()]
    _print_files("About these files:", notes)
    _print_files("Merged with your changes:", changed & edited)
    _print_files("Changed as in the template:", changed - edited)
    _print_files("Yours, and not changed:", edited - changed - plan.problems.keys())


def print_diff(merged: MergeRepository) -> None:
    """Print the differences between the service and the merged files, with conflict markers.

    Args:
        merged: The repository with the merged files.
    """
    merged.git("add", "--all", "--force", "--intent-to-add")
    _print_patch(merged, SERVICE_BRANCH)


def _is_change(service: Repository, change: Change) -> bool:
    if change.source is None:
        return True
    # `uv.lock` is among the changes because `uv lock` may change it later.
    return find_mark(change.source) != find_mark(service.folder / change.path)


def _print_files(title: str, lines: Collection[str]) -> None:
    if lines:
        print(title, *sorted(lines), sep="\n  ", end="\n\n")


def _print_patch(repository: Repository, *revisions: str) -> bool:
    """Print a patch that `git apply` accepts, and return whether it has a change."""
    patch = repository.git("diff", "--binary", "--no-ext-diff", "--no-color", *revisions)
    sys.stdout.flush()
    sys.stdout.buffer.write(patch)  # files may have any encoding
    sys.stdout.buffer.flush()
    return bool(patch)


def print_app_changes(folder: Path, old: Path, new: Path, answers_file: Path) -> None:
    """Print what the template has changed outside `core/`, as a patch.

    Args:
        folder: An empty folder.
        old: The folder with the rendered version that the service is from.
        new: The folder with the rendered version to update to.
        answers_file: The path of the answers file, which every update changes.
    """
    repository = Repository(folder, ISOLATION)
    repository.git("init", "--quiet")
    trees = []
    for version in (old, new):
        repository.git("read-tree", "--empty")
        repository.git(f"--work-tree={version}", "add", "--force", "--all", ".")
        ours = [CORE, str(answers_file)]
        repository.git("rm", "-r", "--quiet", "--cached", "--ignore-unmatch", "--", *ours)
        trees.append(repository.text("write-tree"))
    if not _print_patch(repository, *trees):
        print("The template has changed nothing outside core/.", file=sys.stderr)


def print_drift(folder: Path, service: Repository, rendered: Path) -> None:
    """Print what the service has changed in `core/`, up to its last commit, as a patch.

    Args:
        folder: An empty folder.
        service: The service.
        rendered: The folder with the rendered version that the service is from.
    """
    merged = MergeRepository(service, folder)
    if not _print_patch(merged, merged.rendered_tree(rendered), merged.service_tree()):
        print("You have changed nothing in core/.", file=sys.stderr)
