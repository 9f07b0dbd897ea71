"""Any answer is refused with one line that names the question, or renders files that parse."""

import re
import tomllib
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import copier
import pytest
import yaml
from conftest import AWKWARD, COPIER, ROOT, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUESTIONS = yaml.safe_load((ROOT / "copier.yml").read_text())
QUESTIONS = {
    name: question
    for name, question in QUESTIONS.items()
    if not name.startswith("_") and question.get("when") is not False  # computed, never asked
}
METACHARACTERS = st.text("\"'\\{}%#$&*!|>:-,[]()`\n\r\t\0 aé🚀\u2028\x7f", max_size=20)
ANYTHING = st.one_of(
    METACHARACTERS,
    st.text(max_size=100),
    st.sampled_from(["", " ", "../../x", "/etc", "class", "core", "a" * 300]),
    st.sampled_from(["half \ud83d", "broken \udcff byte"]),
    st.sampled_from(["{{ 1 // 0 }}", "{% raw %}", "yes: no", "~", "null", "[a]", "*.yml"]),
)
SLUGS = st.one_of(ANYTHING, st.from_regex(r"\A[a-z](-?[a-z0-9]){0,30}\Z"))


@pytest.fixture(scope="module")
def plain_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without its .git folder, so Copier need not clone it for each example."""
    folder = tmp_path_factory.mktemp("plain")
    run("git", "clone", "--quiet", str(template), str(folder / "clone"), cwd=folder)
    run("rm", "-rf", ".git", cwd=folder / "clone")
    return folder / "clone"


def check_parses(project: Path, answers: dict[str, object]) -> None:
    """Check that the rendered files are well-formed and contain the answers."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
    tomllib.loads((project / "core" / "pyproject.toml").read_text(encoding="utf-8"))
    saved = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    yaml.safe_load((project / "core" / "compose.yaml").read_text(encoding="utf-8"))
    for name, value in answers.items():
        assert saved[name] == value
    assert pyproject["description"] == saved["description"]
    assert pyproject["name"] == saved["project_slug"]
    assert re.fullmatch(r"[a-z](-?[a-z0-9])*", pyproject["name"])
    assert pyproject["name"] in {package["name"] for package in lock["package"]}
    assert (
        (project / "README.md")
        .read_text(encoding="utf-8")
        .startswith(f"# {saved['project_name']}\n")
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=ANYTHING,
    slug=st.none() | SLUGS,
    description=ANYTHING,
    enable_job_queue=st.booleans(),
    engine=st.sampled_from([None, *QUESTIONS["task_engine"]["choices"].values()]),
)
def test_any_answers(
    plain_template: Path,
    name: str,
    slug: str | None,
    description: str,
    enable_job_queue: bool,
    engine: str | None,
) -> None:
    answers = {
        "project_name": name,
        "description": description,
        "enable_job_queue": enable_job_queue,
    }
    if slug is not None:
        answers["project_slug"] = slug
    if engine is not None:
        answers["task_engine"] = engine
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project = Path(folder) / "service"
        try:
            copier.run_copy(str(plain_template), project, data=answers, defaults=True, quiet=True)
        except ValueError as error:
            (line,) = str(error).splitlines()
            assert re.match(
                rf"Validation error for question '({'|'.join(QUESTIONS)})': [A-Z].*\.$", line
            ), line
            assert not project.exists()
        else:
            check_parses(project, answers)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("project_name", ""),
        ("project_name", " \t"),
        ("project_name", "x" * 300),
        ("project_name", "two\nlines"),
        ("project_slug", ""),
        ("project_slug", "../../x"),
        ("project_slug", "Has Blanks"),
        ("project_slug", "x\n"),
        ("project_slug", "fastapi"),
        ("project_slug", "core"),
        ("enable_job_queue", "maybe"),
        ("enable_job_queue", "1"),
        ("task_engine", "local"),
        ("task_engine", "rabbit"),
        ("description", "two\nlines"),
        ("description", "x" * 300),
    ],
)
def test_refused_on_the_command_line(
    template: Path, tmp_path: Path, question: str, answer: str
) -> None:
    command = [
        COPIER,
        "copy",
        "--quiet",
        "--defaults",
        "--data",
        f"{question}={answer}",
        str(template),
        "service",
    ]
    done = run(*command, cwd=tmp_path, check=False)
    assert done.returncode != 0
    said = f"ValueError: (Validation error for question|Invalid choice for) '{question}': .+"
    assert re.fullmatch(said, done.stderr.splitlines()[-1])
    assert list(tmp_path.iterdir()) == []


def test_awkward_answers_are_accepted(plain_template: Path, tmp_path: Path) -> None:
    copier.run_copy(
        str(plain_template), tmp_path / "service", data=AWKWARD, defaults=True, quiet=True
    )
    check_parses(tmp_path / "service", dict(AWKWARD))


def test_every_question_is_checked() -> None:
    assert len(QUESTIONS) <= 10
    for name, question in QUESTIONS.items():
        assert "default" in question, name
        assert "validator" in question, name


def test_taken_names_are_those_of_the_locks() -> None:
    taken = set((ROOT / "includes" / "taken-names.txt").read_text().split())
    for lock in (ROOT / "template").glob("*uv.lock*"):
        locked = set(
            re.findall(r'^\[\[package\]\]\nname = "([^"]+)"$', lock.read_text(), re.MULTILINE)
        )
        assert locked
        assert locked <= taken, "includes/taken-names.txt is out of date: run script/lock"
