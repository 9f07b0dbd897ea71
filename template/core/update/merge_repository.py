"""The temporary repository in which git merges `core/`."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from core.update import ENGINE, QUESTION
from core.update.conflicts import BASE, UPDATE, stages_by_path
from core.update.git import Repository

CORE = "core"
ANSWER_CHANGE = f"-G^({QUESTION}|{ENGINE}):"
"""The option with which `git log` lists only commits that change the answer about the engine."""
BASE_BRANCH, SERVICE_BRANCH, UPDATE_BRANCH = "base", "service", "update"
"""The branches of the merge. Conflict markers call the last two HEAD and update."""
SIMILARITY = "75%"
"""Git takes two files for one renamed file only if they are this similar. Its 50% is a guess."""
ISOLATION = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_AUTHOR_NAME": "update",
    "GIT_AUTHOR_EMAIL": "update",
    "GIT_COMMITTER_NAME": "update",
    "GIT_COMMITTER_EMAIL": "update",
}
"""The environment for git. It keeps out the user's settings, such as `merge.ff=only`."""


class MergeRepository(Repository):
    """A temporary repository, so that the service's files change only after the merge.

    Args:
        service: The service, which is a repository or a folder in one.
        folder: An empty folder.
    """

    def __init__(self, service: Repository, folder: Path) -> None:
        super().__init__(folder, ISOLATION)
        self.service = service
        object_format = service.text("rev-parse", "--show-object-format")
        self.git("init", "--quiet", f"--object-format={object_format}")
        # Without these settings, git would change line ends.
        for name in ("core.autocrlf", "core.eol"):
            value = service.git("config", name, check=False).decode().strip()
            if value:
                self.git("config", name, value)
        objects = service.folder / service.text("rev-parse", "--git-path", "objects")
        alternates = folder / ".git" / "objects" / "info" / "alternates"
        alternates.write_text(f"{objects.resolve()}\n")

    def merge(self, old: Path, new: Path) -> set[str]:
        """Merge the update and the service's last commit, in this repository's folder.

        Args:
            old: The folder with the rendered version that the service is from.
            new: The folder with the rendered version to update to.

        Returns:
            The paths that the service deleted and the update changed. They stay deleted.

        Raises:
            UpdateError: A git command failed.
        """
        base = self.add_branch(BASE_BRANCH, self.rendered_tree(old))
        self.add_branch(SERVICE_BRANCH, self.service_tree(), "-p", base)
        self.add_branch(UPDATE_BRANCH, self.rendered_tree(new), "-p", base)
        self.git("checkout", "--quiet", "--force", SERVICE_BRANCH)
        self.git(
            "merge",
            "--quiet",
            "--no-commit",
            f"--strategy-option=find-renames={SIMILARITY}",
            UPDATE_BRANCH,
            check=False,
        )
        self.git("rev-parse", "--verify", "MERGE_HEAD")  # exists after a merge, even with conflicts
        stages = stages_by_path(self.unmerged_entries())
        deleted = {path for path, found in stages.items() if found == {BASE, UPDATE}}
        for path in deleted:
            self.git("rm", "--quiet", "--force", "--", path)
        return deleted

    def leave_out_deleted(self, answers_file: Path) -> set[str]:
        """Leave out the new files that the service had before, and deleted.

        Call it if only the answers change: each answer has an engine with its own files.

        Args:
            answers_file: The path of the service's answers file. An update changes an answer in the
                commit that deletes the files of an engine, so that the files may come back.

        Returns:
            The paths of the files.

        Raises:
            UpdateError: A git command failed.
        """
        new = self._differences("--name-only", "--no-renames", "--diff-filter=A", UPDATE_BRANCH)
        listed = self.entries("ls-tree", "-r", "-z", "--name-only", SERVICE_BRANCH)
        added = sorted({*new} - {*listed})
        if not added:
            return set()
        find = ("--literal-pathspecs", "log", "--no-renames", "--diff-filter=D")
        shown = ("-z", "--relative", "--name-only", "--format=")
        once = {*self.service.entries(*find, *shown, "--", *added)}
        deleted = set()
        for path in once.intersection(added):
            commit = self.service.text(*find, "-1", "--format=%H", "--", path)
            change = ("log", "--format=%H", ANSWER_CHANGE, f"{commit}^!", "--", str(answers_file))
            if not self.service.text(*change):
                self.git("rm", "--quiet", "--force", "--", path)
                deleted.add(path)
        return deleted

    def add_branch(self, name: str, tree: str, *options: str) -> str:
        """Add a branch with one commit of a tree, and return the commit."""
        # Different messages keep commits apart that have the same tree.
        commit = self.text("commit-tree", *options, "-m", name, tree)
        self.git("branch", name, commit)
        return commit

    def service_tree(self) -> str:
        """Return the tree of `core/` in the service's last commit."""
        prefix = self.service.text("rev-parse", "--show-prefix")
        name = f"HEAD:{prefix}{CORE}"
        tree = self.service.git("rev-parse", "--quiet", "--verify", name, check=False)
        self.git("read-tree", "--empty")
        if tree:
            self.git(
                "read-tree",
                f"--prefix={CORE}/",
                tree.decode().strip(),
            )
        return self.text("write-tree")

    def rendered_tree(self, rendered: Path) -> str:
        """Return the tree of `core/` in a folder with a rendered version."""
        self.git("read-tree", "--empty")
        self.git(f"--work-tree={rendered}", "add", "--force", CORE)
        return self.text("write-tree")

    def edited_paths(self) -> set[str]:
        """Return the files that the service has edited, added or deleted."""
        return {*self._differences("--name-only", "--no-renames", SERVICE_BRANCH)}

    def moved_edits(self) -> dict[str, str]:
        """Return the files that the service edited and the update renamed: new path to old path."""
        edited = {*self._differences("--name-only", "--diff-filter=M", SERVICE_BRANCH)}
        options = ("--name-status", "--diff-filter=R", f"--find-renames={SIMILARITY}")
        renames = self._differences(*options, UPDATE_BRANCH)  # score, old path, new path, score ...
        pairs = zip(renames[2::3], renames[1::3], strict=True)
        return {new: old for new, old in pairs if old in edited}

    def _differences(self, *options: str) -> list[str]:
        *others, branch = options
        return self.entries("diff", "-z", *others, BASE_BRANCH, branch)

    def unmerged_entries(self) -> list[str]:
        """Return the index entries of the paths that git could not merge."""
        return self.entries("ls-files", "--unmerged", "-z")

    def update_entries(self, paths: Collection[str]) -> list[str]:
        """Return the index entries of these paths in the update, as far as it has them."""
        if not paths:
            return []
        listed = self.entries("ls-tree", "-r", "-z", UPDATE_BRANCH, "--", *paths)
        return [re.sub(r"^(\d+) blob (\w+)", rf"\1 \2 {UPDATE}", entry) for entry in listed]
