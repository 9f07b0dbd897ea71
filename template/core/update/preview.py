"""Prints what an update would do."""

from collections.abc import Iterable

from core.update.merge_repository import SERVICE_BRANCH, MergeRepository
from core.update.plan import Plan


def print_plan(merged: MergeRepository, plan: Plan) -> None:
    """Print the files by what happens to them.

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
