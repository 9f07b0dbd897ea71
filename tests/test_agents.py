"""The pages for coding agents, and the map in CONTRIBUTING.md, say what is so."""

import os
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, UV, copy, duplicate, git, run
from pages import commands

TEMPLATE = ROOT / "template"
PAGE = TEMPLATE / "core" / "docs" / "agents.md"
MAP = re.findall(r"^\| (`[^|]+) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)


def named(document: Path, pattern: str) -> list[str]:
    return re.findall(rf"`({pattern})`", document.read_text())


def test_the_map_has_every_folder_and_names_only_what_exists() -> None:
    folders = {name.rstrip("/") for cell in MAP for name in re.findall(r"`([^`]+)`", cell)}
    assert not [name for name in folders if not (ROOT / name).exists()]
    listed = git(ROOT, "ls-files").splitlines()
    top = {name.partition("/")[0] for name in listed if "/" in name}
    assert top <= folders
    core = TEMPLATE / "core"
    large = {
        path.name
        for path in core.iterdir()
        if path.is_dir() and len(list(path.rglob("*.py"))) > 7 and path.name not in SMALL
    }
    assert not [name for name in large if f"template/core/{name}" not in folders]


def test_every_script_is_explained() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    scripts = [path for path in (ROOT / "script").iterdir() if os.access(path, os.X_OK)]
    scripts = [path for path in scripts if path.is_file()]
    assert len(scripts) > 10
    assert not [path.name for path in scripts if f"script/{path.name}" not in text]


SMALL = {"config", "logging", "__pycache__"}
"""Folders of core/ that explain themselves."""


@pytest.mark.parametrize("document", [ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md"])
def test_paths_of_the_template_exist(document: Path) -> None:
    paths = named(document, r"(?:template|tests|script|hooks|includes|docs)/[\w./-]*")
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_files_that_scripts_write_are_named() -> None:
    text = (ROOT / "AGENTS.md").read_text()
    for script, written in (
        ("api", ("API.md", "not-public.toml")),
        ("lock", ("taken-names.txt", "uv.lock")),
        ("release", ()),
    ):
        source = (ROOT / "script" / script).read_text()
        assert f"(`script/{script}`)" in text
        assert all(name in source and name in text for name in written)
    assert "script/api" in (ROOT / "script" / "release").read_text()


def test_python_files_of_the_template_contain_no_jinja() -> None:
    files = list(TEMPLATE.rglob("*.py.jinja"))
    assert files == []


def test_the_commands_of_the_template(template: Path, tmp_path: Path) -> None:
    """`script/test` runs in CI, and `script/api` has a test in test_public.py."""
    test, form, api, render = commands(ROOT / "AGENTS.md")
    assert (ROOT / shlex.split(test)[1]).exists()
    assert form == "script/uv run ruff format ."
    assert api == "script/uv run script/api"
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    service = tmp_path / "my-service"
    arguments = shlex.split(render.replace("/tmp/my-service", str(service)))
    assert arguments[:3] == ["script/uv", "run", "copier"]
    run(UV, "run", "--project", str(ROOT), *arguments[2:], cwd=clone)
    assert (service / "AGENTS.md").exists()


def test_the_page_of_a_service_is_thin_and_an_update_keeps_the_rest_current() -> None:
    own = (TEMPLATE / "AGENTS.md").read_text()
    assert "(core/docs/agents.md)" in own
    assert len(own.splitlines()) < 10


def test_the_commands_of_a_service(queue_service: Path, tmp_path: Path) -> None:
    """test_rendered.py runs `just ci`, and test_scaffold.py the other kinds of `just new`."""
    service = duplicate(queue_service, tmp_path / "service")
    setup, new, test, form, lint, typecheck = commands(PAGE)
    assert setup == "uv run just setup"
    assert typecheck == "uv run just typecheck"  # test_scaffold.py runs it
    for command in (new, test, form, lint):
        program, *arguments = shlex.split(command)
        assert program == "uv"
        done = run(UV, *arguments, cwd=service)
    assert "All checks passed!" in done.stdout
    assert "By hand" not in done.stdout
    changed = git(service, "status", "--porcelain", "--untracked-files=all", ":!.venv").splitlines()
    assert changed == [
        " M app/tasks/worker.py",
        "?? app/tasks/count_words.py",
        "?? tests/test_count_words.py",
    ]


def test_what_the_page_of_a_service_names_exists(queue_service: Path) -> None:
    text = PAGE.read_text()
    recipes = set(re.findall(r"`(?:uv run )?just ([a-z-]+)", text))
    listed = run(UV, "run", "just", "--summary", cwd=queue_service).stdout.split()
    assert recipes
    assert recipes <= set(listed)
    fixtures = re.findall(r"fixtures of `core\.testing` \((.*?)\)", text)[0]
    api = (TEMPLATE / "core" / "API.md").read_text()
    for name in re.findall(r"`(\w+)`", fixtures):
        assert f"fixture {name}: " in api
    assert "def eventually(" in api
    for path in named(
        PAGE, r"(?:app|core|tests)/[\w./]*|\.env\.example|\.copier-answers\.yml|uv\.lock"
    ):
        assert path.startswith("app/tasks/count") or (queue_service / path).exists()


def test_a_users_page_is_kept(template: Path, tmp_path: Path) -> None:
    """A copy into a project that has one, as docs/adopt.md describes it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "AGENTS.md").write_text("mine\n")
    copy(template, project)
    assert (project / "AGENTS.md").read_text() == "mine\n"
    assert (project / "core" / "docs" / "agents.md").exists()
