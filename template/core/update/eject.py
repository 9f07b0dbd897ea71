"""The command `just eject`: it removes the updater. Then all of the service belongs to its user."""

import re
import shutil
import sys
from pathlib import Path

from core.update import EXIT_FAILED
from core.update.answers import find_answers_file
from core.update.git import UpdateError
from core.update.service import Service
from core.update.sources import explain

RECIPES = ("core/justfile", "core/recipes.just")
UPDATER = Path("core/update")
RELATED = ["core/update.sh", "core/dev/merge.py", ".github/workflows/update.yml"]
"""Files that need the updater. A service may lack them."""

ALIAS = re.compile(r"^alias .*:= *(update|drift|eject|(en|dis)able-job-queue)$", re.MULTILINE)
"""An alias of a recipe that is gone. It stops every command of just."""
DONE = """\
core/ is yours now, like all other files: change it as you like. No update brings fixes to it.
uv.lock pins the packages, and core/pyproject.toml has their bounds: raise both yourself.
Next, run `just ci` and commit. To go back, run `git revert` with that commit."""


def _eject(service: Service) -> list[str]:
    """Remove the updater, and return what was removed."""
    service.check_repository()
    service.check_clean()
    needed = [str(service.answers_file), str(UPDATER)]
    for path in needed:
        if not service.entries("ls-files", "-z", "--", path):
            raise UpdateError(f"{path} is not in git, so it could not be brought back. Commit it.")
    removed = [path for path in [*needed, *RELATED] if Path(path).exists()]
    service.git("rm", "-r", "--quiet", "--ignore-unmatch", "--", *needed, *RELATED)
    shutil.rmtree(UPDATER / "__pycache__", ignore_errors=True)
    if UPDATER.is_dir() and not any(UPDATER.iterdir()):
        UPDATER.rmdir()
    for name in RECIPES:
        _remove_recipes(Path(name))
    return removed


def _remove_recipes(path: Path) -> None:
    """Remove the recipes of the group `template`. A blank line separates two recipes."""
    if not path.exists():
        return
    recipes = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    kept = [recipe for recipe in recipes if "[group('template')]" not in recipe]
    path.write_text("\n\n".join(kept) + "\n", encoding="utf-8")


def _find_mentions(service: Service) -> list[str]:
    """Return the files that mention a command or a recipe that is gone."""
    command = ["grep", "-z", "--name-only", "--fixed-strings", "-e", "just update"]
    names = service.git(*command, "--", ".", ":!core/CHANGELOG.md", check=False).split(b"\0")
    mentions = [name.decode(errors="replace") for name in names if name]
    justfile = Path("Justfile")
    text = justfile.read_text(encoding="utf-8") if justfile.exists() else ""
    return [*mentions, *(["Justfile"] if ALIAS.search(text) else [])]


def main() -> int:
    """Remove the updater from the service in the current folder, and say what remains.

    Returns:
        The exit status: 0, or 2 if nothing was changed.
    """
    try:
        service = Service(find_answers_file(None))
        removed = _eject(service)
    except (UpdateError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return EXIT_FAILED
    print(f"Removed: {', '.join(removed)}, and the recipes that need them.")
    print(DONE)
    if mentions := _find_mentions(service):
        print(f"These files still mention what is gone: {', '.join(mentions)}")
    return 0
