"""Run by Copier in the project after an update: merges `core/` by git, and tells what changed and what needs a person.

Copier itself merges file by file (`git apply`, then `git merge-file`) and ends with status 0 whatever came of it. An
edit to a file that the new version removed or renamed is gone then, and one changed binary file drops the edits of all
the others, because a patch without its data does not apply. So `core/` is merged once more, from the same three
versions: as the last update left it, as the project has it, and as the new version renders it.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from copier import run_copy
from packaging.version import Version

CORE = "core"
NEEDS_A_PERSON = 4
"""By this status `just update` tells conflicts from a failure of this code."""
EMPTY: Mapping[str, str] = {}
IDENTITY = {f"GIT_{role}_{what}": "update" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
"""Of commits that nobody will see."""
OURS, THEIRS = "yours", "update"
"""The branches that are merged; git names them in conflict markers."""

# Of the stages of a path that git could not merge, 1 is the last update's, 2 the project's, 3 the new version's.
MARKED = "your edit and the update's touch the same lines; both are marked in the file"
REMOVED = "you have edited it, and the update removed it; it stays until you move your edit and delete it"
BOTH = "you and the update have both replaced it; yours stays, the update's is `git show :3:./{path}`"
MOVED = "you and the update have moved or replaced it, each in another way; see which of the two you need"
DELETED = "you have deleted it, and the update changed it; it stays deleted"


class Repository:
    """A git repository, with the commands that are needed of it.

    Args:
        folder: Where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(
        self, *arguments: str, data: bytes | None = None, check: bool = True, environment: Mapping[str, str] = EMPTY
    ) -> bytes:
        """The output of a git command, with this data as its input."""
        # Neither the user's hooks nor their settings for line ends may have a part in this.
        fixed = ["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false"]
        done = subprocess.run(
            ["git", *fixed, *arguments],
            cwd=self.folder,
            env={**os.environ, **environment, **IDENTITY},
            input=data,
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.DEVNULL,
            check=check,
        )
        return done.stdout

    def names(self, *arguments: str) -> list[str]:
        """What a git command lists, with `-z` among its arguments."""
        return [os.fsdecode(name) for name in self.git(*arguments).split(b"\0") if name]


def render(source: Repository, version: str, answers: Mapping[str, Any], target: Path) -> Path:
    """Render one version of the template.

    Args:
        source: Its repository.
        version: Which one.
        answers: To its questions.
        target: Where to.
    """
    files = target.with_name(f"{target.name}-template")
    index = {"GIT_INDEX_FILE": str(target.with_name(f"{target.name}-index"))}
    source.git("read-tree", version, environment=index)
    source.git("checkout-index", "--all", f"--prefix={files}/", environment=index)
    data = {name: value for name, value in answers.items() if not name.startswith("_")}
    run_copy(str(files), target, data=data, defaults=True, quiet=True, exclude=["/app", "/tests", "/.*"])
    return target


class Merge:
    """The merge of `core/`, in a repository of its own, so that nothing is changed before it is done.

    Args:
        project: The project, as a repository or a folder in one.
        folder: An empty folder.
    """

    def __init__(self, project: Repository, folder: Path) -> None:
        self.project = project
        self.prefix = os.fsdecode(project.git("rev-parse", "--show-prefix")).strip()
        self.repository = Repository(folder)
        self.repository.git("init", "--quiet")
        objects = Path(os.fsdecode(project.git("rev-parse", "--git-path", "objects")).strip())
        borrowed = (project.folder / objects).resolve()
        (folder / ".git" / "objects" / "info" / "alternates").write_text(f"{borrowed}\n")
        self.ours = self._tree(self.project_tree())

    def project_tree(self) -> str | None:
        """The tree of `core/` as it was committed before the update."""
        found = self.project.git("rev-parse", "--quiet", "--verify", f"HEAD:{self.prefix}{CORE}", check=False)
        return found.decode().strip() or None

    def _tree(self, core: str | None) -> str:
        self.repository.git("read-tree", "--empty")
        if core:
            self.repository.git("read-tree", f"--prefix={CORE}/", core)
        return self.repository.git("write-tree").decode().strip()

    def rendered_tree(self, rendered: Path) -> str:
        """The tree of `core/` as it was rendered."""
        self.repository.git("read-tree", "--empty")
        self.repository.git(f"--work-tree={rendered}", "add", "--force", CORE)
        return self.repository.git("write-tree").decode().strip()

    def _commit(self, tree: str, *parents: str) -> str:
        options = [option for parent in parents for option in ("-p", parent)]
        return self.repository.git("commit-tree", *options, "-m", "core", tree).decode().strip()

    def run(self, base: str, theirs: str) -> dict[str, set[int]]:
        """Merge, into the folder of this repository. What the project has deleted stays deleted.

        Returns:
            The paths that git could not merge, and which stages there are of each.
        """
        first = self._commit(base)
        for name, tree in ((OURS, self.ours), (THEIRS, theirs)):
            self.repository.git("branch", name, self._commit(tree, first))
        self.repository.git("checkout", "--quiet", "--force", OURS)
        self.repository.git("merge", "--quiet", "--no-commit", THEIRS, check=False)
        stages: dict[str, set[int]] = {}
        for line in self.repository.names("ls-files", "--unmerged", "-z"):
            details, path = line.split("\t", 1)
            stages.setdefault(path, set()).add(int(details.split()[2]))
        for path, found in stages.items():
            if found == {1, 3}:
                self.repository.git("rm", "--quiet", "--force", "--cached", "--", path)
                _remove(self.repository.folder / path)
        return stages

    def write_back(self) -> None:
        """Make `core/` of the project what came of it; what git ignores there stays."""
        merged = {path.relative_to(self.repository.folder).as_posix() for path in _files(self.repository.folder / CORE)}
        listed = self.project.names("ls-files", "-z", "--cached", "--others", "--exclude-standard", CORE)
        for name in {*listed} - merged:
            _remove(self.project.folder / name)
        for name in merged:
            source, target = self.repository.folder / name, self.project.folder / name
            if not _is_same(source, target):
                _remove(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)

    def mark(self) -> None:
        """Tell git what is not merged, so that it refuses to commit before that is done."""
        self.project.git("reset", "--quiet", "HEAD", "--", CORE)
        unmerged = [line for line in self.repository.git("ls-files", "--unmerged", "-z").split(b"\0") if line]
        if unmerged:
            # The project gets the new version's blobs, which its index will name.
            self.project.git("fetch", "--quiet", "--no-tags", str(self.repository.folder), THEIRS)
            prefix = os.fsencode(self.prefix)
            paths = {line.split(b"\t", 1)[1] for line in unmerged}
            lines = [b"0 %s\t%s%s\0" % (b"0" * 40, prefix, path) for path in paths]
            lines += [line.replace(b"\t", b"\t" + prefix, 1) + b"\0" for line in unmerged]
            self.project.git("update-index", "-z", "--index-info", data=b"".join(lines))

    def describe(self, path: str, stages: set[int]) -> str:
        """What has to be done about a path that git could not merge."""
        if stages == {1, 2}:
            return REMOVED
        if not {2, 3} <= stages:
            return MOVED
        return MARKED if _has_markers(self.repository.folder / path) else BOTH.format(path=path)


def _has_markers(path: Path) -> bool:
    """Whether a file holds both ends of a conflict as git marks it."""
    if path.is_symlink() or not path.is_file():
        return False
    lines = path.read_bytes().splitlines()
    return any(line.startswith(b"<<<<<<< ") for line in lines) and any(line.startswith(b">>>>>>> ") for line in lines)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if not other.is_file() or (one.stat().st_mode ^ other.stat().st_mode) & 0o100:
        return False
    return one.read_bytes() == other.read_bytes()


def _remove(path: Path) -> None:
    """Remove a file, and the folders that are empty then."""
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder.name == CORE or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def merge_core(project: Repository, template: Repository, answers_file: str) -> tuple[list[str], list[str]]:
    """Merge `core/` where the project has edits of its own in it.

    Args:
        project: The project.
        template: The template's clone, at the new version.
        answers_file: Where the answers are, in the project.

    Returns:
        One line for each file that needs a person, and one for each that is worth knowing.
    """
    before = yaml.safe_load(project.git("show", f"HEAD:./{answers_file}"))
    after = yaml.safe_load((project.folder / answers_file).read_text(encoding="utf-8"))
    with TemporaryDirectory(prefix="update.") as name:
        folder = Path(name)
        (folder / "merge").mkdir()
        merge = Merge(project, folder / "merge")
        old = render(template, os.environ["VERSION_FROM"], before, folder / "old")
        if (base := merge.rendered_tree(old)) == merge.ours:
            return [], []
        new = render(template, "HEAD", after, folder / "new")
        unmerged = merge.run(base, merge.rendered_tree(new))
        merge.write_back()
        merge.mark()
        deleted = [path for path, stages in unmerged.items() if stages == {1, 3}]
        problems = [
            f"{path}: {merge.describe(path, stages)}"
            for path, stages in sorted(unmerged.items())
            if path not in deleted
        ]
        return problems, [f"{path}: {DELETED}" for path in sorted(deleted)]


def changes(changelog: str, since: Version, until: Version) -> str:
    """The sections of a changelog after one version, up to another one.

    Args:
        changelog: Its text, with a heading `## [1.2.3]` for each version, the newest first.
        since: The version before the update.
        until: The one after it; where it is no release, what is unreleased belongs to it.
    """
    wanted = []
    for section in re.split(r"^(?=## )", changelog, flags=re.MULTILINE)[1:]:
        version = re.match(r"## \[?v?(\d[^\]\s]*)", section)
        if (since < Version(version[1]) <= until) if version else (until.is_devrelease or bool(until.local)):
            wanted.append(section.strip())
    return "\n\n".join(wanted)


def new_settings(before: str, after: str) -> list[str]:
    """The environment variables of settings that only the second version of `core/config.py` has."""

    def names(source: str) -> set[str]:
        classes = [
            node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Settings"
        ]
        fields = [node.target for each in classes for node in each.body if isinstance(node, ast.AnnAssign)]
        return {target.id.upper() for target in fields if isinstance(target, ast.Name)}

    try:
        return sorted(names(after) - names(before))
    except SyntaxError:  # one of them has marks of a conflict
        return []


def main() -> int:
    """Merge, and tell.

    Returns:
        4 where a person has to do something, which makes Copier's command fail; 0 otherwise.
    """
    answers_file, template = sys.argv[1:]
    project, source = Repository(Path.cwd()), Repository(Path(template))
    problems, notes = merge_core(project, source, answers_file)

    changelog = source.folder / "CHANGELOG.md"
    since, until = (Version(os.environ[f"VERSION_PEP440_{name}"]) for name in ("FROM", "TO"))
    if changelog.exists() and (told := changes(changelog.read_text(encoding="utf-8"), since, until)):
        print(f"What is new:\n\n{told}\n")
    old_config = project.git("show", f"HEAD:./{CORE}/config.py", check=False).decode()
    config = project.folder / CORE / "config.py"
    if config.exists() and (settings := new_settings(old_config, config.read_text(encoding="utf-8"))):
        print(f"New settings, which core/config.py describes: {', '.join(settings)}")
    for note in notes:
        print(note)
    if not problems:
        return 0
    print("The update is done, but for these files:", file=sys.stderr)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    print("See to each one, then `git add` and commit it.", file=sys.stderr)
    print("To undo the update instead: git reset --hard && git clean -fd core", file=sys.stderr)
    return NEEDS_A_PERSON


if __name__ == "__main__":
    sys.exit(main())
