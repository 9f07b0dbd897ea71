"""Public names are documented, and change on purpose only. `script/surface.py` lists them."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from api_files import make_lint_list, make_page
from conftest import ROOT, UV, duplicate, run
from docstrings import find_gaps
from reference import write_service
from released import (
    NO_RELEASE,
    find_breaks,
    find_newest_release,
    read_released,
    write_released,
)
from surface import Surface, SurfaceError

TEMPLATE = ROOT / "template"
CORE = TEMPLATE / "core"
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASED = (ROOT / "tests" / "released_api.txt").read_text()
RUFF = str(Path(sys.executable).parent / "ruff")
USERS = ("template/app", "template/tests", "tests/snippets", "tests/service")
"""The folders whose files use public names only."""


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface(TEMPLATE)


def test_the_written_files_are_up_to_date(surface: Surface) -> None:
    hint = "run `script/uv run script/api`"
    assert (CORE / "API.md").read_text() == make_page(surface), hint
    assert (CORE / "not-public.toml").read_text() == make_lint_list(surface), hint


def test_what_was_released_is_unchanged_or_in_the_changelog(surface: Surface) -> None:
    release, released = read_released(RELEASED)
    assert release == find_newest_release(CHANGELOG), "run `script/uv run script/api --release`"
    assert find_breaks(released, surface.signatures(), CHANGELOG) == []


def test_public_docstrings_are_complete(surface: Surface) -> None:
    assert find_gaps(surface) == []


def test_code_of_users_takes_public_names_only(surface: Surface, tmp_path: Path) -> None:
    for name in USERS:
        shutil.copytree(ROOT / name, tmp_path / name)
    write_service(tmp_path / "tests" / "snippets" / "service")
    documents = [TEMPLATE / "app" / "tasks" / "README.md", *(CORE / "docs").glob("*.md")]
    text = "".join(path.read_text() for path in documents)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"readme_{number}.py").write_text(block)
    files = list(tmp_path.rglob("*.py"))
    assert len(files) > 50
    assert len(blocks) > 5

    options = ("--no-cache", "--output-format=concise", "--select=TID251")
    config = ("--config", str(CORE / "ruff.toml"))
    done = run(RUFF, "check", *options, *config, str(tmp_path), cwd=tmp_path, check=False)
    assert "All checks passed!" in done.stdout, done.stdout
    for file in files:  # as text, too: tests patch by path
        named = re.findall(r"""["'](core(?:\.\w+)+)["']""", file.read_text())
        assert surface.paths().issuperset(named), file


BANNED = "TID251 `core.tasks.queue` is banned: this name is not public and may change in any update"
PROBE = """\
import core.tasks.queue
from core.tasks import Job, queue
from core.tasks.queue import Queue

USED = (core.tasks.queue, queue, Job, Queue)
"""
REPORTED_LINES = [1, 2, 3, 5]


def test_just_lint_reports_what_is_not_public(queue_service: Path, tmp_path: Path) -> None:
    service = duplicate(queue_service, tmp_path / "service")
    module = service / "app" / "probe.py"
    module.write_text(PROBE)
    done = run(UV, "run", "--quiet", "just", "lint", cwd=service, check=False)
    assert done.returncode != 0
    reported = re.findall(rf"{BANNED}.*\n +--> app/probe\.py:(\d+):", done.stdout)
    assert [int(number) for number in reported] == REPORTED_LINES

    lines = PROBE.splitlines()
    for number in REPORTED_LINES:
        lines[number - 1] += "  # noqa: TID251"
    module.write_text("\n".join(lines) + "\n")
    run(UV, "run", "--quiet", "just", "lint", cwd=service)


# The checks themselves, on a small `core/`.
FILES = {
    "core/__init__.py": "",
    "core/cars/__init__.py": '''
"""Cars."""

from core.cars.engine import Engine, Part, spare
from core.cars.start import start

__all__ = ["Engine", "Part", "start"]
''',
    "core/cars/engine.py": '''
class Part:
    """A part.

    Attributes:
        weight: In kg.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def inspect(self) -> None:
        """Inspect the part."""


class Engine(Part):
    """An engine."""

    cylinders: int = 4
    _oil = 0.0

    def stop(self, after: float = 0, **options: bool) -> None:
        """Stop the engine.

        Args:
            after: Seconds until it stops.
            **options: Any.

        Raises:
            ValueError: `after` is negative.
        """
        if after < 0:
            raise ValueError(after)


def spare() -> None: ...
''',
    "core/cars/start.py": '''
from core.cars.engine import Engine

SECONDS = 1.0


async def start(engine: Engine) -> None:
    """Start an engine.

    Args:
        engine: Which one.
    """
''',
    "core/tools.py": '''
"""Tools."""

from core.cars import Engine

__all__ = ["HAMMER", "Engine"]

HAMMER = "hammer"
"""A hammer."""
SAW = "saw"
''',
    "core/inner/__init__.py": "",
    "core/inner/secret.py": "",
}
MODULES = ["core.cars", "core.tools"]
SIGNATURES = {
    "core.cars.Engine": ["class Engine(Part)"],
    "core.cars.Engine.weight": ["weight: float"],
    "core.cars.Engine.cylinders": ["cylinders: int = 4"],
    "core.cars.Engine.stop": ["def stop(after: float = 0, **options: bool) -> None"],
    "core.cars.Part": ["class Part"],
    "core.cars.Part.weight": ["weight: float"],
    "core.cars.Part.inspect": ["def inspect() -> None"],
    "core.cars.start": ["async def start(engine: Engine) -> None"],
    "core.tools.HAMMER": ["HAMMER = 'hammer'"],
    "core.tools.Engine": ["the same as core.cars.Engine"],
}


def make_example(folder: Path, old: str = "", new: str = "") -> Surface:
    """The public names of the small `core/`, with one text in it replaced."""
    assert not old or sum(text.count(old) for text in FILES.values()) == 1, old
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace(old, new) if old else text)
    return Surface(folder, MODULES, {"core.cars.Engine.inspect"})


def test_what_is_public(tmp_path: Path) -> None:
    example = make_example(tmp_path)
    assert example.signatures() == SIGNATURES
    assert example.not_public() == [
        "core.cars.engine",
        "core.cars.spare",
        "core.cars.start.SECONDS",  # `core.cars.start` would be the function, too
        "core.cars.start.start",
        "core.inner",
        "core.tools.SAW",
    ]
    assert find_gaps(example) == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('__all__ = ["HAMMER", "Engine"]', "", "core.tools is public, but has no __all__"),
        ("def inspect", "def check", "core.cars.Engine.inspect, which do not exist"),
    ],
)
def test_a_wrong_list_is_told(tmp_path: Path, old: str, new: str, error: str) -> None:
    with pytest.raises(SurfaceError, match=error):
        make_example(tmp_path, old, new)
    with pytest.raises(SurfaceError, match=r"PUBLIC_MODULES names core\.bikes"):
        Surface(tmp_path, ["core.bikes"], set())


@pytest.mark.parametrize(
    ("old", "new", "gap"),
    [
        ('    """An engine."""\n', "", "core.cars.Engine: no docstring"),
        ('"""A hammer."""\n', "", "core.tools.HAMMER: no docstring"),
        ("weight: In kg", "mass: In kg", "core.cars.Part: mass is not an attribute"),
        ("after: Seconds", "at: Seconds", "core.cars.Engine.stop: after is not in Args"),
        ("after: Seconds", "at: Seconds", "core.cars.Engine.stop: at is not a parameter"),
        ("            **options: Any.\n", "", "core.cars.Engine.stop: **options is not in Args"),
        ("ValueError: `after`", "KeyError:", "core.cars.Engine.stop: ValueError is not in Raises"),
        ("engine: Which one.", "", "core.cars.start: engine is not in Args"),
    ],
)
def test_a_gap_in_a_docstring_is_found(tmp_path: Path, old: str, new: str, gap: str) -> None:
    assert gap in find_gaps(make_example(tmp_path, old, new))


def changelog(*lines: str) -> str:
    unreleased = "\n".join(f"- {line}" for line in lines)
    return f"# Changelog\n\n## [Unreleased]\n\n{unreleased}\n\n## [1.2.0]\n\n- `Part`, `HAMMER`.\n"


def test_the_list_of_a_release_is_read_as_it_was_written() -> None:
    assert read_released(write_released(SIGNATURES, "1.2.0")) == ("1.2.0", SIGNATURES)
    assert find_newest_release(changelog()) == "1.2.0"
    assert find_newest_release("## [Unreleased]\n") == NO_RELEASE


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ('"Engine", "Part", "start"]', '"Engine", "start"]', "Part"),  # with its members
        ("def inspect(self)", "def inspect(self, /, lamp: bool)", "Part.inspect"),
        ("after: float = 0", "after: float = 1", "Engine.stop"),
        ("cylinders: int", "cylinders: float", "Engine.cylinders"),
        ("async def start", "def start", "start"),
        ('HAMMER = "hammer"', 'HAMMER = "mallet"', "HAMMER"),
    ],
)
def test_a_break_needs_a_line_in_the_changelog(
    tmp_path: Path, old: str, new: str, name: str
) -> None:
    current = make_example(tmp_path, old, new).signatures()
    (found,) = find_breaks(SIGNATURES, current, changelog(f"{name} without quotes"))
    assert f"Name `{name}` in CHANGELOG.md" in found
    (path,) = [path for path in SIGNATURES if found.startswith(f"{path} is ")]
    for text in (f"`{name}` is new", f"`{name}(anything)` is new", f"`{path}` is new"):
        assert find_breaks(SIGNATURES, current, changelog(text)) == []
    assert find_breaks(SIGNATURES, current, f"{changelog()}\n- `{name}`") == [found]
