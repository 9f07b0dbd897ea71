"""Follow the pages of the documentation site in one service: every snippet and every command."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT, UV, run
from pages import (
    Block,
    Reader,
    commands,
    confirm_address,
    find_pages,
    list_mails,
    read_blocks,
    read_commands,
)
from test_promises import FOREVER, execute, in_background, wait_until

NOT_FOLLOWED = {"adopt.md", "deploy.md"}
"""Pages that have their own tests, such as `test_adopt.py`."""

ELSEWHERE = {
    "uvx copier copy --defaults ~/groundwork my-service": "test_promises.py::test_the_readme",
    f"cd my-service && {FOREVER}": "test_promises.py::test_the_readme",
    "script/demo": "test_promises.py::test_the_demo",
    "uvx copier copy --defaults --data 'project_name=Parcel Tracker' --data enable_job_queue=false"
    " ~/groundwork parcels": "test_promises.py::test_the_readme",
    "uv run just": "test_promises.py::test_the_readme",
    "uv run just test": "test_rendered.py::test_its_own_ci_passes",
    "uv run just ci": "test_rendered.py::test_its_own_ci_passes",
    "uv run just update --check": "test_promises.py::test_the_readme",
    "uv run just update": "test_promises.py::test_the_readme",
    "uv run just disable-job-queue": "test_promises.py::test_the_readme",
    "uv run just enable-job-queue": "test_promises.py::test_the_readme",
    "uv run just update --to current --defaults --data task_engine=celery": "test_promises.py"
    "::test_the_readme",
    "uv run just eject": "test_adopt.py::test_a_service_leaves_the_template",
}
"""Commands that another test runs."""

NEEDS_DOCKER = "docker "
"""No machine of these tests has a Docker engine."""

NEW = "uv run just new "
"""These commands write files that the next blocks change, so they run in their place."""

TESTS = "uv run just test tests/"
"""These commands run as one, which starts the servers once."""

HERE = "http://127.0.0.1:8000"


class Place:
    """The service of the pages, while `just dev` runs.

    Args:
        service: The folder of the service.
        base: The address of its web process.
        environment: The environment of the commands.
    """

    def __init__(self, service: Path, base: str, environment: dict[str, str]) -> None:
        self._service = service
        self._base = base
        self._environment = environment
        self._known: dict[str, str] = {}

    def follow(self, command: str) -> None:
        """Run a command, with the values that earlier ones have shown in place of names."""
        for name, value in self._known.items():
            command = command.replace(name, value)
        command = command.replace(HERE, self._base).replace("curl ", "curl --silent --fail ")
        printed = self._execute(command)
        if found := re.search(r'"job_id":"([^"]+)"', printed):
            self._known.setdefault("JOB_ID", found[1])
        if command.endswith("/signup"):
            confirm_address(self._base, "correct horse")

    def _execute(self, command: str) -> str:
        return execute(command, self._service, self._environment)


def blocks_to_follow() -> Iterator[Block]:
    for page in find_pages():
        if page.name not in NOT_FOLLOWED:
            yield from read_blocks(page)


def is_run_here(command: str) -> bool:
    is_figure = command.startswith("script/uv run python benchmarks/")
    return command not in ELSEWHERE and not command.startswith(NEEDS_DOCKER) and not is_figure


def write_files(blocks: list[Block], service: Path, shell: dict[str, str]) -> list[str]:
    """Write the files of the blocks, as a reader does. Return the paths of their tests."""
    reader = Reader(service)
    for block in blocks:
        if block.path:
            reader.write(block)
            continue
        for command in read_commands(block.text):
            if command.startswith(NEW):
                printed = execute(command, service, shell)
                assert "By hand" not in printed
                reader.made += re.findall(r"^wrote (\S+)$", printed, re.MULTILINE)
    return [name for name in reader.made if name.startswith("tests/")]


def test_the_pages(
    template: Path, queue_service: Path, tmp_path: Path, shell: dict[str, str]
) -> None:
    run("git", "clone", "--quiet", str(template), "groundwork", cwd=tmp_path)
    blocks = list(blocks_to_follow())
    todo = [
        command
        for block in blocks
        if block.language == "sh"
        for command in read_commands(block.text)
        if is_run_here(command) and not command.startswith(NEW)
    ]
    todo = list(dict.fromkeys(todo))  # once each
    copy, commit, *todo = sorted(todo, key=lambda command: "parcel-tracker" not in command)
    execute(copy, tmp_path, shell)
    service = tmp_path / "parcel-tracker"
    name = ("git config --global user.name Ada", "git config --global user.email ada@example.com")
    execute(" && ".join((*name, commit)), tmp_path, shell)
    (service / ".venv").symlink_to(queue_service / ".venv")  # so nothing is installed again
    (packages,) = (service / ".venv" / "lib").glob("python*/site-packages")
    stand_in = packages / "sentry_sdk"
    stand_in.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "stand_in_sentry.py", stand_in / "__init__.py")
    (stand_in / "py.typed").touch()

    written = write_files(blocks, service, shell)
    for recipe in ("format", "lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=service)

    assert FOREVER in todo
    with in_background(FOREVER, service, shell, tmp_path / "dev.log") as base:
        place = Place(service, base, shell)
        for command in todo:
            if command != FOREVER and not command.startswith(TESTS):
                place.follow(command)
        wait_until(lambda: any("Parcel" in subject for _, subject in list_mails(base)))
    tests = [name for command in todo if command.startswith(TESTS) for name in command.split()[4:]]
    assert sorted(tests) == sorted(written)
    assert " passed" in run(UV, "run", "just", "test", *tests, cwd=service).stdout


def test_each_block_is_followed() -> None:
    """A Python block names its file, and each command is run here or by the named test."""
    for block in blocks_to_follow():
        assert block.language in ("diff", "jinja", "python", "sh"), block
        assert (block.path is None) is (block.language == "sh"), block
    pages = [page for page in find_pages() if page.name not in NOT_FOLLOWED]
    found = [command for page in pages for command in commands(page)]
    assert ELSEWHERE.keys() <= set(found)
    for test in ELSEWHERE.values():
        module, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / module).read_text(), test
    for command in found:
        if command.startswith("script/uv run python benchmarks/"):
            assert (ROOT / command.split()[3]).exists(), command


def test_the_snippet_of_the_readme_is_from_a_service() -> None:
    """The README shows a task without its body."""
    (block,) = [block for block in read_blocks(ROOT / "README.md") if block.language == "python"]
    app = ROOT / "template" / "app"
    source = "".join(path.read_text() for path in app.rglob("*.py"))
    for line in block.text.splitlines():
        code = line.partition("  #")[0].removesuffix(" ...")
        assert code in source, line
