"""Random edits, template versions and answers: no line of the user is lost silently.

`UPDATE_SEQUENCES` is the number of histories. Each one follows from its seed, so a failure can be
repeated: `UPDATE_FIRST=17 UPDATE_SEQUENCES=1`.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, commit_all, git, run
from copier import run_copy, run_update
from copier.errors import CopierWarning, TaskError

from core.update import EXIT_CONFLICTS, EXIT_FAILED, command

SEQUENCES = int(os.environ.get("UPDATE_SEQUENCES", 20))
FIRST = int(os.environ.get("UPDATE_FIRST", 0))
PROCESSES = 2
ANSWERS = ".copier-answers.yml"
LINES = 12
UPDATER_FOLDERS = ("dev", "update")
CHANGES = ["edit"] * 3 + ["delete", "rename", "add", "chmod", "binary", "link", "rewrite"]
"""Kinds of changes. Most of them are edits."""

FAULTS = ["kill", "kill", "stop", "fill", "lock", "twice"]
"""The faults: methods of `Sequence` that disturb an update. An update without a fault follows."""

Files = dict[str, tuple[str, bytes, bool]]
"""The kind and the content of each file, and whether it is executable."""

TEXTS = [
    "core/one.py",
    "core/two.py",
    "core/sub/three.py",
    "core/sub/deep/four.txt",
    "core/tasks/engines/redis/engine.py",  # exists only with the job queue
    "core/with space.md",
    "app/main.py",
    "app/tasks/emails.py",
    "app/core/odd.py",
    "README.md",
    "Justfile",
]
BINARIES = ["core/picture.bin", "app/picture.bin"]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_template(folder: Path) -> None:
    """Create a template with the real rules, hooks and questions, but few files to render."""
    for name in ("copier.yml", "template/core/dev/merge.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("includes", "hooks", "template/core/update"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    rendered = folder / "template"
    for name in TEXTS:
        lines = [f"{name} line {number}\n" for number in range(LINES)]
        write(rendered / name, "".join(lines).encode())
    for number, name in enumerate(BINARIES):
        write(rendered / name, bytes([0, number, *range(256)]))
    (rendered / "core" / "link").symlink_to("one.py")
    write(rendered / "core" / "run.sh", b"#!/bin/sh\n")
    (rendered / "core" / "run.sh").chmod(0o755)
    write(rendered / ".gitignore", b"*.log\n.env\n")
    answers = "{{ _copier_conf.answers_file }}.jinja"
    shutil.copy(ROOT / "template" / answers, rendered / answers)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit_all(folder, "v0.1.0")
    git(folder, "tag", "v0.1.0")


def look(folder: Path) -> Files:
    """Return the files in a folder, without the files of git."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] == ".git":
            continue
        if path.is_symlink():
            seen[name] = ("link", os.readlink(path).encode(), False)
        elif path.is_file():
            seen[name] = ("file", path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return seen


def marked_files(files: Files) -> set[str]:
    """Return the names of the files that hold conflict markers."""
    return {name for name, (_, content, _) in files.items() if b"\n<<<<<<< " in b"\n" + content}


class Sequence:
    """A random history of a service and its template."""

    def __init__(self, seed: int, base: Path, folder: Path) -> None:
        self.random = random.Random(seed)
        self.template, self.project, self.folder = folder / "template", folder / "project", folder
        self.queue = self.random.random() < 0.5
        self.base = base / "template"
        shutil.copytree(self.base, self.template, symlinks=True)
        shutil.copytree(base / f"project-{self.queue}", self.project, symlinks=True)
        self.number = 0

    def files(self, root: Path, only_core: bool = False) -> list[Path]:
        options = ("--cached", "--others", "--exclude-standard")
        names = git(root, "ls-files", "-z", *options).split("\0")
        names = [name for name in names if name and name[0] not in ".{"]
        if only_core:
            names = [name for name in names if name.startswith("core/")]
        paths = [root / name for name in names]
        paths = [path for path in paths if path.is_symlink() or path.is_file()]
        return [path for path in paths if path.parent.name not in UPDATER_FOLDERS]

    def some_name(self) -> str:
        self.number += 1
        folder = self.random.choice(["core", "core/sub", "core/new", "app", "app/new", "docs"])
        return f"{folder}/{self.random.choice(['made', 'new file', 'ümlaut'])}{self.number}.txt"

    def change(self, root: Path, who: str) -> None:
        """Make a random change to the files in a folder."""
        files = self.files(root, only_core=self.random.random() < 0.8)
        kind = self.random.choice(CHANGES)
        if kind == "add" or not files:
            is_shared = self.random.random() < 0.3
            shared_name = f"core/both{self.random.randrange(2)}.txt"
            name = shared_name if is_shared else self.some_name()
            write(root / name, self.line(who, name))
            return
        path = self.random.choice(files)
        name = path.relative_to(root).as_posix()
        if kind == "delete":
            path.unlink()
        elif kind == "rename":
            target = root / self.some_name()
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        elif path.is_symlink():
            path.unlink()
            path.symlink_to(self.random.choice(["two.py", "nowhere"]))
        elif kind == "chmod":
            path.chmod(path.stat().st_mode ^ 0o111)
        elif kind == "link":
            path.unlink()
            path.symlink_to("elsewhere")
        elif kind == "binary":
            path.write_bytes(self.random.randbytes(50) + b"\0\n" + self.line(who, name))
        elif kind == "rewrite":
            path.write_bytes(b"".join(self.line(who, name) for _ in range(4)))
        else:
            lines = path.read_bytes().splitlines(keepends=True)
            at = self.random.randrange(len(lines) + 1)
            if self.random.random() < 0.5:
                lines[at:at] = [self.line(who, name)]
            else:
                lines[at : at + 1] = [self.line(who, name)]
            path.write_bytes(b"".join(lines))

    def line(self, who: str, name: str) -> bytes:
        self.number += 1
        return f"{who} wrote {self.number} in {name}\n".encode()

    def run(self) -> None:
        """Edit both sides and update, once or twice."""
        answers = self.project / ANSWERS
        answers.write_text(answers.read_text().replace(str(self.base), str(self.template)))
        commit_all(self.project, "rendered")
        self.base_files = look(self.project)
        for version in range(2, 2 + self.random.choice([1, 1, 1, 1, 2])):
            for _ in range(self.random.randrange(6)):
                self.change(self.project, "user")
            commit_all(self.project, "mine")
            write(self.project / "secret.log", b"ignored\n")
            write(self.project / "core" / "own.log", b"ignored\n")
            for _ in range(self.random.randrange(5)):
                self.change(self.template / "template", "template")
            commit_all(self.template, f"v0.{version}.0")
            git(self.template, "tag", f"v0.{version}.0")
            if self.random.random() < 0.3:
                self.queue = not self.queue
            self.update()
            commit_all(self.project, "updated")  # with the conflicts that it may have left
            self.base_files = look(self.project)

    def update(self) -> None:
        before = look(self.project)
        git_before = git(self.project, "status", "--porcelain")
        assert git_before == ""
        (self.folder / "output").unlink(missing_ok=True)
        fault = self.random.choice([*FAULTS, *[""] * len(FAULTS)])
        if fault:
            is_done = getattr(self, fault)(before)
            if is_done:
                return
            assert look(self.project) == before, f"{fault} changed the service"
            assert git(self.project, "status", "--porcelain") == "", fault
        update = self.copier_update if self.random.random() < 0.2 else self.just_update
        with output_of(self.folder / "output") as file, contextlib.chdir(self.project):
            status = update()
        output = file.read_text(errors="surrogateescape")
        assert status in (0, EXIT_CONFLICTS), output
        self.check(before, look(self.project), output, failed=status == EXIT_CONFLICTS)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start an update as a user does, in a separate process group."""
        data = ["--data", f"enable_job_queue={str(self.queue).lower()}"]
        just = ["-B", "-m", "core.update", "--defaults", *data]
        plain = ["-m", "copier", "update", "--trust", "--defaults", "--overwrite", *data]
        command = plain if self.random.random() < 0.2 else just
        with (self.folder / "output").open("ab") as file:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.project,
                env=clean_environment(),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def wait_for_a_moment(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a random moment, most often one in which the update writes."""
        if self.random.random() < 0.3:
            time.sleep(self.random.uniform(0, 1.5))
            return
        git_folder = self.project / ".git"
        while process.poll() is None and not [*git_folder.glob("core-update.draft*")]:
            time.sleep(0.001)
        time.sleep(self.random.choice([0, self.random.uniform(0, 0.1)]))

    def read_output(self) -> str:
        return (self.folder / "output").read_text(errors="surrogateescape")

    def ends(self, before: Files) -> bool:
        """Return whether an update was done. If it was interrupted, first continue or undo it."""
        journal = self.project / ".git" / "core-update" / "journal.json"
        version = self.project / ANSWERS
        # A killed git command leaves its lock. The user is told to delete it.
        (self.project / ".git" / "index.lock").unlink(missing_ok=True)
        if journal.exists() and not json.loads(journal.read_text())["is_done"]:
            command = [sys.executable, "-B", "-m", "core.update"]
            done = run(*command, cwd=self.project, check=False)
            assert done.returncode == EXIT_FAILED, done.stdout + done.stderr
            assert "was interrupted" in done.stderr
            option = self.random.choice(["--undo", "--continue"])
            done = run(*command, option, cwd=self.project, check=False)
            assert done.returncode in (0, EXIT_CONFLICTS), done.stdout + done.stderr
            with (self.folder / "output").open("a", errors="surrogateescape") as file:
                file.write(done.stdout + done.stderr)
            if option == "--undo":
                assert done.returncode == 0, done.stderr
                return False
        if look(self.project) == before:
            return False
        assert version.read_bytes() != before[ANSWERS][1], "core/ changed, the answers file did not"
        output = self.read_output()
        self.check(before, look(self.project), output, "except for these files" in output)
        return True

    def kill(self, before: Files) -> bool:
        """Kill an update."""
        process = self.start()
        self.wait_for_a_moment(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return self.ends(before)

    def stop(self, before: Files) -> bool:
        """Stop an update, as Ctrl-C or a supervisor does."""
        process = self.start()
        self.wait_for_a_moment(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, self.random.choice([signal.SIGINT, signal.SIGTERM]))
        process.wait()
        return self.ends(before)

    def fill(self, before: Files) -> bool:
        """Let an update write no further file, as on a full disk."""
        process = self.start()
        self.wait_for_a_moment(process)
        for pid in processes_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
        process.wait()
        return self.ends(before)

    def lock(self, before: Files) -> bool:
        """Lock git's index during an update."""
        process = self.start()
        self.wait_for_a_moment(process)
        lock = self.project / ".git" / "index.lock"
        with contextlib.suppress(FileExistsError), lock.open("x"):
            pass
        process.wait()
        return self.ends(before)

    def twice(self, before: Files) -> bool:
        """Run two updates at once."""
        processes = [self.start(), self.start()]
        for process in processes:
            process.wait()
        return self.ends(before)

    def just_update(self) -> int:
        """Run `just update`, and return its status."""
        return command.main(["--defaults", "--data", f"enable_job_queue={self.queue}"])

    def copier_update(self) -> int:
        """Run plain Copier, which takes four times as long, and return the status of its hook."""
        data = {"enable_job_queue": self.queue}
        try:
            run_update(data=data, defaults=True, quiet=True, unsafe=True, overwrite=True)
        except TaskError as error:
            return error.returncode or 0
        return 0

    def check(self, before: Files, after: Files, output: str, failed: bool) -> None:
        """Check the files and the output against the promises of an update."""
        for name in before.keys() | after.keys():
            if not name.startswith("core/") and name != ANSWERS:
                assert before.get(name) == after.get(name), f"{name} was changed outside core/"
        assert after["core/own.log"] == before["core/own.log"]
        assert failed is ("except for these files" in output)
        everything = b"\n".join(content for _, content, _ in after.values())
        for name, (_, content, _) in before.items():
            if not name.startswith("core/"):
                continue
            for line in content.splitlines():
                if line.startswith(b"user wrote") and line not in everything:
                    assert f"{name}: " in output, f"{line!r} of {name} is lost:\n{output}"
        for name, base in self.base_files.items():
            mine, left = before.get(name), after.get(name)
            if not name.startswith("core/") or f"{name}: " in output or mine == base:
                continue
            if mine is None:
                assert left is None, f"{name} was deleted and is back"
            elif mine[0] == "link":
                assert mine in after.values(), f"{name} no longer links to {mine[1]!r}"
            elif left and mine[0] == base[0] == left[0] and mine[2] != base[2]:
                assert left[2] is mine[2], f"{name} has lost its mode"
        # The user may have committed markers of an earlier update.
        marked = marked_files(after) - marked_files(before)
        assert all(f"{name}: " in output for name in marked), f"{marked} not reported:\n{output}"
        assert not [name for name in after if name.endswith(".rej")]
        if not failed:
            assert not git(self.project, "ls-files", "--unmerged")


def processes_of(group: int) -> list[int]:
    """Return the ids of the processes in a group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(int(folder.name)) == group:
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def output_of(path: Path) -> Iterator[Path]:
    """Write the output of this process and its children to a file."""
    saved = os.dup(1), os.dup(2)
    with (
        path.open("w", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield path
        finally:
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def run_sequence(base: Path, seed: int) -> str | None:
    """Run a history, and return its failure, if any."""
    warnings.simplefilter("ignore", CopierWarning)
    with tempfile.TemporaryDirectory(prefix="sequence.") as folder:
        try:
            Sequence(seed, base, Path(folder)).run()
        except Exception:
            return f"sequence {seed}:\n{traceback.format_exc()[-3000:]}"
    return None


def test_no_line_is_lost_silently(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    make_template(template)
    for queue in (True, False):
        project = tmp_path / f"project-{queue}"
        answers = {"enable_job_queue": queue}
        run_copy(str(template), project, data=answers, defaults=True, quiet=True, vcs_ref="v0.1.0")
        git(project, "init", "--quiet", "--initial-branch=main")
    seeds = range(FIRST, FIRST + SEQUENCES)
    with ProcessPoolExecutor(PROCESSES) as pool:
        results = list(pool.map(partial(run_sequence, tmp_path), seeds))
    failures = [result for result in results if result]
    if failures:
        pytest.fail("\n".join([*failures, f"{len(failures)} of {SEQUENCES}"]), pytrace=False)
