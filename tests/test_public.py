"""What `script/surface.py` calls public is described, documented, and changed on purpose only."""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest
from api_files import make_lint_list, make_page
from conftest import ROOT, UV, run
from released import find_breaks, find_newest_release, read_released, write_released
from surface import PUBLIC_MODULES, Name, Surface

TEMPLATE = ROOT / "template"
CORE = TEMPLATE / "core"
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASED = (ROOT / "tests" / "released_api.txt").read_text()
USERS = ("template/app", "template/tests", "tests/snippets", "tests/service")
"""The folders whose files may use public names only."""

RUFF = str(Path(sys.executable).parent / "ruff")
TRIVIAL = {"*args", "**kwargs"}
BANNED = "TID251 `core.tasks.queue` is banned: it is not public and may change in any update"


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface(TEMPLATE)


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A copy of `core/` to change."""
    return shutil.copytree(CORE, tmp_path / "core")


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file}: {old}"
    file.write_text(text.replace(old, new))


def test_the_written_files_are_up_to_date(surface: Surface) -> None:
    hint = "run `script/uv run script/api`"
    assert (CORE / "API.md").read_text() == make_page(surface), hint
    assert (CORE / "not-public.toml").read_text() == make_lint_list(surface), hint


def test_what_was_released_is_unchanged_or_in_the_changelog(surface: Surface) -> None:
    release, released = read_released(RELEASED)
    assert release == find_newest_release(CHANGELOG), "run `script/uv run script/api --release`"
    assert find_breaks(released, surface.signatures(), CHANGELOG) == []


def changelog(*lines: str) -> str:
    unreleased = "\n".join(f"- {line}" for line in lines)
    return f"# Changelog\n\n## [Unreleased]\n\n{unreleased}\n\n## [1.2.0]\n\n- `Job.abort` and all.\n"


def test_the_list_of_a_release_is_read_as_it_was_written(surface: Surface) -> None:
    release = find_newest_release(changelog())
    written = write_released(surface.signatures(), release)
    release, signatures = read_released(written)
    assert release == "1.2.0"
    assert find_breaks(signatures, surface.signatures(), changelog()) == []
    assert len(signatures) > 100


@pytest.mark.parametrize(
    ("module", "old", "new", "name"),
    [
        ("config.py", '"SettingsError", ', "", "core.config.SettingsError"),
        ("config.py", "def link_to(self, path: str)", "def link(self, path: str)", "Settings.link_to"),
        ("config.py", 'host: str = "127.0.0.1"', 'host: str = "0.0.0.0"', "Settings.host"),
        ("context.py", "def get_actor() -> str | None", "def get_actor() -> str", "TaskContext.get_actor"),
        ("services/limits.py", 'Limits("5 per hour", ', 'Limits("9 per hour", ', "SIGN_UP"),
        ("services/email.py", "*, to_email: str", "*, to: str, to_email: str", "send_email"),
        ("tasks/__init__.py", '    "JobStatus",\n', "", "JobStatus"),
    ],
)
def test_a_break_needs_a_line_in_the_changelog(
    surface: Surface, core: Path, module: str, old: str, new: str, name: str
) -> None:
    text = (core / module).read_text()
    (core / module).write_text(text.replace(old, new, 1))
    assert (core / module).read_text() != text
    released = surface.signatures()
    current = read_released(write_released(Surface(core.parent).signatures(), "1.3.0"))[1]

    (found,) = find_breaks(released, current, changelog("Something else, and link_to without quotes."))
    assert name.rpartition(".")[2] in found
    assert find_breaks(released, current, changelog(f"`{name}` is another one now.")) == []
    assert find_breaks(released, current, changelog(f"`{name}(anything)` is another one now.")) == []
    assert find_breaks(released, current, f"{changelog()}- `{name}`\n") == [found]


def python_files(folder: Path) -> list[Path]:
    for name in USERS:
        shutil.copytree(ROOT / name, folder / name)
    readme = (TEMPLATE / "app" / "tasks" / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        (folder / f"readme_{number}.py").write_text(block)
    return sorted(folder.rglob("*.py"))


def test_code_of_users_takes_public_names_only(surface: Surface, tmp_path: Path) -> None:
    files = python_files(tmp_path)
    assert len(files) > 50
    config = str(CORE / "ruff.toml")
    done = run(
        *(RUFF, "check", "--no-cache", "--output-format=concise", "--config", config),
        *("--select=TID251", str(tmp_path)),
        cwd=tmp_path,
        check=False,
    )
    assert "All checks passed!" in done.stdout, done.stdout

    public = {*PUBLIC_MODULES, *(name.path for name in surface)}
    for file in files:
        for path in re.findall(r"""["'](core(?:\.\w+)+)["']""", file.read_text()):
            assert path in public, f"{file}: {path} is not public"  # as tests patch


def test_public_docstrings_are_complete(surface: Surface) -> None:
    gaps = [f"{name.path}: {gap}" for name in surface for gap in find_gaps(name)]
    assert gaps == [], "\n".join(gaps)


def find_gaps(name: Name) -> Iterator[str]:
    """What a docstring must say and does not."""
    found = name.object
    if name.same_as or _is_field(found):
        return
    if found.docstring is None:
        yield "no docstring"
        return
    documented = _documented(found)
    if isinstance(found, griffe.Function) and not _is_fixture(found):
        expected = {"parameters": _parameters(found), "raises": _raised(found.source)}
    elif isinstance(found, griffe.Class):
        fields = {member.path.rpartition(".")[2] for member in name.members}
        yield from (f"{each} is no attribute" for each in documented["attributes"] - fields)
        init = found.members.get("__init__")
        has_arguments = bool(documented["parameters"])
        expected = {"parameters": _parameters(init) if init and has_arguments else set()}
    else:
        return
    yield from (f"{each} is not in Args" for each in expected["parameters"] - documented["parameters"] - TRIVIAL)
    yield from (f"{each} is no parameter" for each in documented["parameters"] - expected["parameters"])
    yield from (f"{each} is not in Raises" for each in expected.get("raises", set()) - documented["raises"])


def _is_field(found: griffe.Object) -> bool:
    is_member = isinstance(found.parent, griffe.Class)
    return is_member and found.is_attribute and "property" not in found.labels


def _is_fixture(function: griffe.Function) -> bool:
    return any(decorator.callable_path == "pytest.fixture" for decorator in function.decorators)


def _documented(found: griffe.Object) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {"parameters": set(), "raises": set(), "attributes": set()}
    assert found.docstring
    for section in found.docstring.parsed:
        kind = section.kind.value
        if kind == "raises":
            names[kind] = {str(item.annotation).rpartition(".")[2] for item in section.value}
        elif kind in names:
            names[kind] = {item.name for item in section.value}
    return names


def _parameters(function: griffe.Function) -> set[str]:
    stars = {"variadic positional": "*", "variadic keyword": "**"}
    parameters = [each for each in function.parameters if each.name not in ("self", "cls")]
    return {stars.get(each.kind.value, "") + each.name for each in parameters}


def _raised(source: str) -> set[str]:
    """The exceptions that are raised by name."""
    nodes = ast.walk(ast.parse(source))
    raised = [node.exc for node in nodes if isinstance(node, ast.Raise) and node.exc]
    called = [each.func if isinstance(each, ast.Call) else each for each in raised]
    names = {ast.unparse(each).rpartition(".")[2] for each in called}
    return {name for name in names if name[0].isupper()}


@pytest.mark.parametrize(
    ("module", "old", "new", "gap"),
    [
        ("errors.py", '"""Its', '"""""Its', "core.errors.UserError: no docstring"),
    ],
)
def test_a_gap_is_found(core: Path, module: str, old: str, new: str, gap: str) -> None:
    replace(core / module, old, new)
    gaps = [f"{name.path}: {gap}" for name in Surface(core.parent) for gap in find_gaps(name)]
    assert gap in gaps


PROBE = """\
import core.tasks.queue
from core.tasks import Job, queue
from core.tasks.queue import Queue

USED = (core.tasks.queue, queue, Job, Queue)
"""
REPORTED_LINES = (1, 2, 3, 5)


def test_just_lint_reports_what_is_not_public(queue_service: Path, tmp_path: Path) -> None:
    service = tmp_path / "service"
    shutil.copytree(queue_service, service, ignore=shutil.ignore_patterns(".venv"))
    module = service / "app" / "probe.py"
    module.write_text(PROBE)
    done = run(UV, "run", "--quiet", "just", "lint", cwd=service, check=False)
    assert done.returncode != 0
    reported = re.findall(rf"{BANNED}.*\n +--> app/probe\.py:(\d+):", done.stdout)
    assert tuple(map(int, reported)) == REPORTED_LINES

    lines = PROBE.splitlines()
    for number in REPORTED_LINES:
        lines[number - 1] += "  # noqa: TID251"
    module.write_text("\n".join(lines) + "\n")
    run(UV, "run", "--quiet", "just", "lint", cwd=service)
