"""Prints what an update would do."""

from collections.abc import Iterable
from pathlib import Path

from core.update.git import Repository
from core.update.merge_repository import (
    BASE_BRANCH,
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
    edited = merged.edited_paths()
    changed = {change.path for change in plan.changes} - plan.problems.keys()
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
    print(merged.git("diff", SERVICE_BRANCH).decode(errors="replace"), end="")


def _print_files(title: str, lines: Iterable[str]) -> None:
    if lines:
        print(title, *sorted(lines), sep="\n  ", end="\n\n")


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
    print(repository.git("diff", *trees).decode(errors="replace"), end="")


def print_drift(folder: Path, service: Repository, rendered: Path) -> None:
    """Print what the service has changed in `core/`, up to its last commit, as a patch.

    Args:
        folder: An empty folder.
        service: The service.
        rendered: The folder with the rendered version that the service is from.
    """
    merged = MergeRepository(service, folder)
    merged.merge(rendered, rendered)
    print(merged.git("diff", BASE_BRANCH, SERVICE_BRANCH).decode(errors="replace"), end="")
