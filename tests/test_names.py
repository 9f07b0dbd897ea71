"""Names, settings and answers files of the user do not conflict with the ones of core."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import COPIER, ROOT, UV, clean_environment, commit_all, duplicate, git, run
from copier import run_copy
from released import NO_RELEASE, read_released
from test_update_random import make_template

CORE = ROOT / "template" / "core"
RELEASED_API = ROOT / "tests" / "released_api.txt"
JUSTFILES = ["Justfile", "core/justfile", "core/recipes.just", "core/update.sh"]
LINT = "lint:\n    @echo mine\n"
OTHER_ANSWERS = "# other\n{{ _copier_answers | to_nice_yaml -}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Justfiles of a service, and stand-ins that print how they are called."""
    for name in JUSTFILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "template" / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ("uv", "uvx"):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f'#!/bin/sh\nprintf "<%s>" {name} "$@"\necho "in $PWD"\n')
        stand_in.chmod(0o755)
    return tmp_path


def call(
    service: Path, folder: Path, *command: str, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command with the stand-ins and with the just of a service."""
    path = f"{folder / 'bin'}:{service / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**clean_environment(), "PATH": path}
    return subprocess.run(
        command, cwd=cwd or folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("own", "arguments", "output"),
    [
        (LINT, ["lint"], "mine\n"),
        ("[default]\nmine:\n    @echo mine\n", [], "mine\n"),
        ("default:\n    @echo mine\n", [], "mine\n"),
        ("lint path:\n    @echo {{ path }}\n", ["lint", "one"], "one\n"),
        ("setup name:\n    @echo {{ name }}\n", ["setup", "one"], "one\n"),
        ("lint: (test 'x')\ntest path:\n    @echo {{ path }}\n", ["lint"], "x\n"),
        ('root := "mine"\nlint:\n    @echo {{ root }}\n', ["lint"], "mine\n"),
    ],
)
def test_a_recipe_of_the_user_wins(
    queue_service: Path, folder: Path, own: str, arguments: list[str], output: str
) -> None:
    with (folder / "Justfile").open("a") as file:
        file.write(f"\n{own}")
    done = call(queue_service, folder, "just", *arguments)
    assert (done.stdout, done.stderr) == (output, "")
    assert "core/update.sh" in call(queue_service, folder, "just", "--show", "update").stdout


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_recipe_in_a_file_that_the_user_imports_wins(
    queue_service: Path, folder: Path, place: str
) -> None:
    (folder / "mine.just").write_text(LINT)
    line, text = "import 'mine.just'\n", (folder / "Justfile").read_text()
    (folder / "Justfile").write_text(line + text if place == "before" else f"{text}\n{line}")
    assert call(queue_service, folder, "just", "lint").stdout == "mine\n"


@pytest.mark.parametrize(
    "setting",
    [
        'shell := ["bash", "-euo", "pipefail", "-c"]',
        "default-list",
        "dotenv-load",
        "export",
        "fallback",
        "ignore-comments",
        "lazy",
        "positional-arguments",
        "quiet",
        "unstable",
    ],
)
def test_a_setting_of_the_user_stops_no_recipe_of_core(
    queue_service: Path, folder: Path, setting: str
) -> None:
    with (folder / "Justfile").open("a") as file:
        file.write(f"\nset {setting}\n")
    output = call(queue_service, folder, "just", "test", "a b").stdout
    options = "<-n><auto><--maxprocesses><4>"
    assert output == f"<uv><run><pytest>{options}<a b>in {folder}\n"


def test_core_only_has_recipes(queue_service: Path, folder: Path) -> None:
    """Anything else could conflict with the user's Justfile, and so could a dependency."""
    command = ["just", "--justfile", "core/justfile", "--dump", "--dump-format", "json"]
    dumped = json.loads(call(queue_service, folder, *command).stdout)
    assert len(dumped["recipes"]) > 20
    assert not [name for name, recipe in dumped["recipes"].items() if recipe["dependencies"]]
    assert dumped["aliases"] == dumped["assignments"] == dumped["modules"] == {}
    for name in ("justfile", "recipes.just"):
        lines = (CORE / name).read_text().splitlines()
        assert not [line for line in lines if re.match(r"(set|export|unexport|mod)\b", line)]


def find(pattern: str, *files: Path) -> list[str]:
    texts = [file.read_text() for file in files]
    return [name for text in texts for name in re.findall(pattern, text, re.MULTILINE)]


def list_settings() -> list[str]:
    module = ast.parse((CORE / "config" / "settings.py").read_text())
    (settings,) = (
        node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    return [
        node.target.id
        for node in settings.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def list_names() -> dict[str, list[str]]:
    """Return the names of core that share a space with names of the user."""
    collection = r'^        name = "(\w+)"$|_collection_name="(\w+)"'
    documents = [*(CORE / "models").glob("*.py"), CORE / "services" / "limits.py"]
    return {
        "recipes": find(r"^([a-z][\w-]*)(?: [^:\n]*)?:$", CORE / "recipes.just"),
        "settings": list_settings(),
        "collections": ["".join(pair) for pair in find(collection, *documents)],
        "metrics": find(r'(?:Counter|Histogram|Gauge)\(\s*"(\w+)"', CORE / "tasks" / "metrics.py"),
        "paths": find(
            r'(?:prefix=|\.get\(\s*|^CONSOLE = )"(/[a-z-]+)', *(CORE / "web").glob("*.py")
        ),
        "compose": find(r"^  ([\w-]+):$", CORE / "compose.yaml.jinja"),
    }


def test_a_new_name_of_core_begins_with_core() -> None:
    """Before the first release, `released_names.toml` has exactly the names of core."""
    is_released = read_released(RELEASED_API.read_text())[0] != NO_RELEASE
    released = tomllib.loads((ROOT / "tests" / "released_names.toml").read_text())
    for kind, names in list_names().items():
        assert len(names) > 4, f"the pattern of {kind} finds too few names"
        new = [name for name in names if not name.lstrip("/").startswith("core")]
        assert {*new} <= {*released[kind]}, f"{kind}: a user may have a new name already"
        assert is_released or {*released[kind]} == {*new}, f"{kind}: core no longer has a name"


@pytest.mark.parametrize("own", ["alias lint := test", "mod lint 'mine.just'", "][", "import 'no'"])
def test_an_update_starts_without_just(queue_service: Path, folder: Path, own: str) -> None:
    """Just refuses each of these. Once it takes an alias, remove the warning in the Justfile."""
    (folder / "mine.just").write_text("")
    with (folder / "Justfile").open("a") as file:
        file.write(f"\n{own}\n")
    assert call(queue_service, folder, "just", "update").returncode == 1
    folder_of_user = folder / "app"
    folder_of_user.mkdir()
    command = ["sh", "../core/update.sh", "--data", "a=b c"]
    done = call(queue_service, folder, *command, cwd=folder_of_user)
    assert re.fullmatch(rf"<uvx>.*<--data><a=b c>in {re.escape(str(folder))}\n", done.stdout)


USER_SETTINGS = """
[tool.mypy]
warn_unreachable = true
disallow_any_expr = true

[[tool.mypy.overrides]]
module = ["nowhere.*"]
ignore_missing_imports = true

[[tool.mypy.overrides]]
module = "app.old"
ignore_errors = true
"""
"""`disallow_any_expr` would report hundreds of lines of core/ if it applied to them."""
UNTYPED = "import nowhere\n\n\ndef first(names):\n    return nowhere.sort(names)[0]\n"


def test_the_users_settings_of_mypy_count_for_the_users_code(
    queue_service: Path, tmp_path: Path
) -> None:
    project = duplicate(queue_service, tmp_path / "service")
    (project / "app" / "old.py").write_text(UNTYPED)
    (project / "app" / "new.py").write_text("from typing import Any\n\nnumbers: Any = [1]\n")
    command = [UV, "run", "--quiet", "just", "typecheck"]
    done = run(*command, cwd=project, check=False)
    assert done.returncode == 1
    assert {line.split(":")[0] for line in done.stdout.splitlines() if ": error:" in line} == {
        "app/old.py"
    }

    with (project / "pyproject.toml").open("a") as file:
        file.write(USER_SETTINGS)
    done = run(*command, cwd=project, check=False)
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert any(line.startswith("app/new.py:3: error: ") for line in errors)
    assert not [line for line in errors if not line.startswith(("app/", "tests/"))]
    assert not [line for line in errors if line.startswith("app/old.py")]

    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(
        text.replace("warn_unreachable = true", "strict = false")
    )
    done = run(*command, cwd=project, check=False)
    assert done.returncode == 1
    assert "error: [tool.mypy] in pyproject.toml sets `strict`" in done.stderr


def test_the_users_settings_of_ruff_and_pytest_leave_core_alone(
    queue_service: Path, tmp_path: Path
) -> None:
    project = duplicate(queue_service, tmp_path / "service")
    pyproject = project / "pyproject.toml"
    text = pyproject.read_text()
    assert text.endswith('[tool.ruff]\nextend = "core/ruff.toml"\n')
    text = text.replace('addopts = "-p core.testing"', 'addopts = "--unknown"')
    text = text.replace('asyncio_mode = "auto"', 'asyncio_mode = "strict"')
    pyproject.write_text(f'{text}line-length = 40\n\n[tool.ruff.lint]\nextend-select = ["D"]\n')
    (project / "conftest.py").write_text("raise SystemExit('a conftest of the user')\n")

    run(UV, "run", "ruff", "check", "core", cwd=project)
    run(UV, "run", "ruff", "format", "--check", "core", cwd=project)
    assert run(UV, "run", "ruff", "check", "app", cwd=project, check=False).returncode == 1
    done = run(UV, "run", "just", "test-core", "-n1", "-k", "test_typecheck", cwd=project)
    assert "1 passed" in done.stdout


@pytest.fixture
def templates(tmp_path: Path) -> tuple[Path, Path]:
    """A small template of ours, and a template of somebody else."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
    make_template(ours)
    (other / "copier.yml").write_text("license:\n  type: str\n  default: MIT\n")
    (other / "LICENSE.txt.jinja").write_text("{{ license }}\n")
    (other / "{{ _copier_conf.answers_file }}.jinja").write_text(OTHER_ANSWERS)
    git(other, "init", "--quiet", "--initial-branch=main")
    commit_all(other, "other")
    git(other, "tag", "v7.0.0")
    return ours, other


def release(ours: Path) -> None:
    (ours / "template" / "core" / "new.py").write_text("")
    commit_all(ours, "v0.2.0")
    git(ours, "tag", "v0.2.0")


def render(template: Path, project: Path, answers_file: str) -> None:
    run_copy(str(template), project, defaults=True, quiet=True, answers_file=answers_file)


@pytest.mark.parametrize("our_file", [".groundwork.yml", ".copier-answers.yml"])
@pytest.mark.parametrize("ours_first", [True, False])
def test_two_templates_in_one_project(
    templates: tuple[Path, Path], tmp_path: Path, our_file: str, ours_first: bool
) -> None:
    """Our updater finds our answers file, and leaves the other one alone."""
    ours, other = templates
    names = {ours: our_file, other: ".other.yml"}
    if our_file != ".copier-answers.yml":
        names[other] = ".copier-answers.yml"
    project = tmp_path / "project"
    for template in (ours, other) if ours_first else (other, ours):
        render(template, project, names[template])
    git(project, "init", "--quiet", "--initial-branch=main")
    commit_all(project, "rendered")
    release(ours)

    done = update(project)
    assert "Updated from v0.1.0 to v0.2.0." in done.stdout
    assert (project / "core" / "new.py").exists()
    changed = git(project, "status", "--porcelain", "--untracked-files=all").split("\n")
    assert {line[3:] for line in changed if line} == {"core/new.py", our_file}


def update(project: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-B", "-m", "core.update", "--defaults", *options]
    return run(*command, cwd=project, check=False)


def test_the_answers_file_of_another_template_is_not_taken(
    templates: tuple[Path, Path], tmp_path: Path
) -> None:
    ours, other = templates
    project = tmp_path / "project"
    render(ours, project, ".groundwork.yml")
    render(other, project, ".copier-answers.yml")
    (project / ".groundwork.yml").unlink()
    git(project, "init", "--quiet", "--initial-branch=main")
    commit_all(project, "rendered")
    release(ours)
    for options in ([], ["--answers-file", ".copier-answers.yml"]):
        done = update(project, *options)
        assert done.returncode == 2
        assert ".copier-answers.yml belongs to another template. If yours has" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert git(project, "status", "--porcelain") == ""

    for name in (".one.yml", ".two.yml"):
        render(ours, project, name)
    assert "more than one answers file: .one.yml, .two.yml. Choose one" in update(project).stderr


def test_a_copy_does_not_overwrite_the_answers_of_another_template(
    templates: tuple[Path, Path], tmp_path: Path
) -> None:
    ours, other = templates
    project = tmp_path / "project"
    render(other, project, ".copier-answers.yml")
    before = (project / ".copier-answers.yml").read_text()
    command = [COPIER, "copy", "--defaults", "--quiet", "--overwrite"]
    done = run(*command, str(ours), str(project), cwd=tmp_path, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.endswith(
        ".copier-answers.yml belongs to another template. Add --answers-file .groundwork.yml."
    )
    assert (project / ".copier-answers.yml").read_text() == before
    assert not (project / "core").exists()

    answers = ["--answers-file", ".groundwork.yml"]
    for _ in range(2):  # a second copy finds its own file
        run(*command, *answers, str(ours), str(project), cwd=tmp_path)
    assert (project / ".copier-answers.yml").read_text() == before
