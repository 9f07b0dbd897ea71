"""Merges `core/` by git from three versions, and tells what changed and what needs a person.

`just update` runs the one that the new version brings along, so that merging can be improved:
`python merge.py OLD NEW`, in the project, with the folders that the old and the new version were rendered to.

Merging is left to git and whole trees, because Copier itself merges file by file and ends with status 0 whatever came
of it: an edit to a file that the new version removed or renamed is gone then, and one changed binary file drops the
edits of all the others.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

CORE = "core"
NEEDS_A_PERSON = 4
"""By this status `just update` tells conflicts from a failure of this code."""
ALONE = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{role}_{what}": "update"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}
"""The environment of a repository that nobody will see: no setting of the user's (`merge.ff=only`) has a part in it."""
OURS, THEIRS = "yours", "update"
"""The branches that are merged. In conflict markers git calls them HEAD and update."""

# Of the stages of a path that git could not merge, 1 is the last update's, 2 the project's, 3 the new version's.
MARKED = "your edit and the update's touch the same lines; both are marked in the file"
REMOVED = (
    "you have edited it, and the update removed it; it stays until you move your edit and delete it"
)
BOTH = (
    "you and the update have both replaced it; yours stays, the update's is `git show :3:./{path}`"
)
MOVED = "you and the update have moved or replaced it, each in another way; see which of the two you need"
DELETED = "you have deleted it, and the update changed it; it stays deleted"
IN_THE_WAY = (
    "{found} is not in git as it is, and stays; the update's file is `git show :3:./{path}`"
)


class Repository:
    """A git repository, with the commands that are needed of it.

    Args:
        folder: Where it is.
        environment: Variables for git, beside those of this process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder
        self.environment = environment

    def git(self, *arguments: str, data: bytes | None = None, check: bool = True) -> bytes:
        """The output of a git command, with this data as its input."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            input=data,
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.DEVNULL,
            check=check,
        )
        return done.stdout

    def line(self, *arguments: str) -> str:
        """What a git command prints, where that is one line."""
        return os.fsdecode(self.git(*arguments)).removesuffix("\n")

    def names(self, *arguments: str) -> list[str]:
        """What a git command lists, with `-z` among its arguments."""
        return [os.fsdecode(name) for name in self.git(*arguments).split(b"\0") if name]


class Merge:
    """The merge of `core/`, in a repository of its own, so that nothing is changed before it is done.

    Args:
        project: The project, as a repository or a folder in one.
        folder: An empty folder.
    """

    def __init__(self, project: Repository, folder: Path) -> None:
        self.project = project
        self.prefix = project.line("rev-parse", "--show-prefix")
        self.repository = Repository(folder, ALONE)
        self.repository.git(
            "init",
            "--quiet",
            f"--object-format={project.line('rev-parse', '--show-object-format')}",
        )
        for name in (
            "core.autocrlf",
            "core.eol",
        ):  # by these, line ends are what the project has committed
            if value := project.git("config", name, check=False).decode().strip():
                self.repository.git("config", name, value)
        borrowed = (project.folder / project.line("rev-parse", "--git-path", "objects")).resolve()
        (folder / ".git" / "objects" / "info" / "alternates").write_text(f"{borrowed}\n")

    def _project_tree(self) -> str:
        self.repository.git("read-tree", "--empty")
        found = self.project.git(
            "rev-parse", "--quiet", "--verify", f"HEAD:{self.prefix}{CORE}", check=False
        )
        if found:
            self.repository.git("read-tree", f"--prefix={CORE}/", found.decode().strip())
        return self.repository.line("write-tree")

    def _rendered_tree(self, rendered: Path) -> str:
        self.repository.git("read-tree", "--empty")
        self.repository.git(f"--work-tree={rendered}", "add", "--force", CORE)
        return self.repository.line("write-tree")

    def _commit(self, name: str, tree: str, *parents: str) -> str:
        options = [option for parent in parents for option in ("-p", parent)]
        return self.repository.line("commit-tree", *options, "-m", name, tree)

    def run(self, old: Path, new: Path) -> dict[str, set[int]]:
        """Merge, into the folder of this repository. What the project has deleted stays deleted.

        Args:
            old: The version before the update, as it was rendered.
            new: The one after it.

        Returns:
            The paths that git could not merge, and which stages there are of each.
        """
        first = self._commit("old", self._rendered_tree(old))
        for name, tree in ((OURS, self._project_tree()), (THEIRS, self._rendered_tree(new))):
            self.repository.git("branch", name, self._commit(name, tree, first))
        self.repository.git("checkout", "--quiet", "--force", OURS)
        self.repository.git("merge", "--quiet", "--no-commit", THEIRS, check=False)
        self.repository.git(
            "rev-parse", "--quiet", "--verify", "MERGE_HEAD"
        )  # it was merged, with conflicts or not
        stages: dict[str, set[int]] = {}
        for line in self.repository.names("ls-files", "--unmerged", "-z"):
            details, path = line.split("\t", 1)
            stages.setdefault(path, set()).add(int(details.split()[2]))
        for path, found in stages.items():
            if found == {1, 3}:
                self.repository.git("--literal-pathspecs", "rm", "--quiet", "--force", "--", path)
        return stages

    def write_back(self) -> dict[str, str]:
        """Write to the project what has changed. Files that git ignores, or shall not look at, stay.

        Returns:
            The paths that could not be written, and what is in the way of each.
        """
        changed = {*self.repository.names("diff", "--name-only", "--no-renames", "-z", OURS)}
        changed |= {*self.repository.names("ls-files", "-z", "--others")}
        tracked = self.project.names("ls-files", "-z", "-v", CORE)
        known = {
            name[2:] for name in tracked if name[0] == "H"
        }  # neither assume-unchanged nor skip-worktree
        written = {name for name in changed if _is_file(self.repository.folder / name)}
        removed = changed - written
        blocked = {
            name: name for name in removed - known if os.path.lexists(self.project.folder / name)
        }
        for name in removed & known:
            _remove(self.project.folder / name, self.project.folder / CORE)
        for name in sorted(written):
            source, target = self.repository.folder / name, self.project.folder / name
            if _is_same(source, target):
                continue
            if found := _in_the_way(target, name in known):
                blocked[name] = found.relative_to(self.project.folder).as_posix()
                continue
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        # A new file that the user's rules let git ignore would stay out of the next commit.
        new = b"".join(os.fsencode(name) + b"\0" for name in written - known - blocked.keys())
        ignored = self.project.git("check-ignore", "-z", "--stdin", data=new, check=False)
        if ignored:
            self.project.git(
                "--literal-pathspecs", "add", "--force", "--intent-to-add", "--pathspec-from-file=-",
                "--pathspec-file-nul", data=ignored,
            )  # fmt: skip
        return blocked

    def mark(self, blocked: Iterable[str]) -> None:
        """Tell git what is not merged, so that a plain `git commit` is refused before that is done.

        Args:
            blocked: Paths of the new version that could not be written.
        """
        unmerged = self.repository.git("ls-files", "--unmerged", "-z").split(b"\0")
        for line in (
            self.repository.git("ls-tree", "-r", "-z", THEIRS, "--", *blocked).split(b"\0")
            if blocked
            else []
        ):
            unmerged.append(re.sub(rb"^(\d+) blob (\w+)", rb"\1 \2 3", line))
        unmerged = [line for line in unmerged if line]
        if unmerged:
            # The project gets the blobs that its index will name.
            names = {line.split()[1] for line in unmerged if not line.startswith(b"160000")}
            pack = self.repository.git("pack-objects", "-q", "--stdout", data=b"\n".join(names))
            self.project.git("unpack-objects", "-q", data=pack)
            prefix = os.fsencode(self.prefix)
            paths = {line.split(b"\t", 1)[1]: b"0" * len(line.split()[1]) for line in unmerged}
            lines = [b"0 %s\t%s%s\0" % (nothing, prefix, path) for path, nothing in paths.items()]
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
    return any(line.startswith(b"<<<<<<< ") for line in lines) and any(
        line.startswith(b">>>>>>> ") for line in lines
    )


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if not other.is_file() or (one.stat().st_mode ^ other.stat().st_mode) & 0o100:
        return False
    return one.read_bytes() == other.read_bytes()


def _in_the_way(target: Path, is_known: bool) -> Path | None:
    """What would be lost, or followed, if a file were written here."""
    if target.is_dir() and not target.is_symlink():
        return target
    if not is_known and os.path.lexists(target):
        return target
    return next((folder for folder in target.parents if _is_file(folder)), None)


def _remove(path: Path, top: Path) -> None:
    """Remove a file, and the folders below this one that are empty then."""
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == top or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def merge_core(project: Repository, old: Path, new: Path) -> tuple[list[str], list[str]]:
    """Bring the changes between two versions into the project's `core/`.

    Args:
        project: The project; what it has committed is merged.
        old: The version before the update, as it was rendered.
        new: The one after it.

    Returns:
        One line for each file that needs a person, and one for each that is worth knowing.

    Raises:
        subprocess.CalledProcessError: A git command failed.
    """
    with TemporaryDirectory(prefix="update.") as folder:
        merge = Merge(project, Path(folder))
        unmerged = merge.run(old, new)
        blocked = merge.write_back()
        gone = {path for path, stages in unmerged.items() if stages == {1, 3}}
        blocked |= {path: path for path in gone if os.path.lexists(project.folder / path)}
        merge.mark(blocked)
        told = {
            path: merge.describe(path, stages)
            for path, stages in unmerged.items()
            if stages != {1, 3}
        }
        told |= {path: IN_THE_WAY.format(found=found, path=path) for path, found in blocked.items()}
        deleted = sorted(gone - blocked.keys())
    return [f"{path}: {what}" for path, what in sorted(told.items())], [
        f"{path}: {DELETED}" for path in deleted
    ]


def read(path: Path) -> str:
    """A text, or nothing where there is no such file."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def news(old: str, new: str) -> str:
    """The sections of a changelog that it did not have before, each of which begins with `## `."""
    sections = [section.strip() for section in re.split(r"^(?=## )", new, flags=re.MULTILINE)[1:]]
    return "\n\n".join(section for section in sections if section not in old and "\n" in section)


def new_settings(old: str, new: str) -> list[str]:
    """The environment variables of settings that only the second text of `core/config.py` has."""

    def names(source: str) -> set[str]:
        classes = [
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.ClassDef) and node.name == "Settings"
        ]
        fields = [
            node.target for each in classes for node in each.body if isinstance(node, ast.AnnAssign)
        ]
        return {target.id.upper() for target in fields if isinstance(target, ast.Name)}

    return sorted(names(new) - names(old))


def main() -> int:
    """Merge, and tell.

    Returns:
        4 where a person has to do something, 0 otherwise.
    """
    old, new = (Path(folder) for folder in sys.argv[1:])
    problems, notes = merge_core(Repository(Path.cwd()), old, new)

    if told := news(*(read(folder / CORE / "CHANGELOG.md") for folder in (old, new))):
        print(f"What is new:\n\n{told}\n")
    if settings := new_settings(*(read(folder / CORE / "config.py") for folder in (old, new))):
        print(f"New settings, which core/config.py describes: {', '.join(settings)}")
    for note in notes:
        print(note)
    if not problems:
        return 0
    sys.stdout.flush()
    print("The update is done, but for these files:", file=sys.stderr)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    print("See to each one, then: uv lock && git add --all && git commit", file=sys.stderr)
    print(
        "To undo the update instead, in this folder: git reset --quiet . && git restore . && git clean -fd core",
        file=sys.stderr,
    )
    return NEEDS_A_PERSON


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"error: {error}")
