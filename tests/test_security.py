"""The table in `core/SECURITY.md` answers each requirement of OWASP ASVS 5.0, levels 1 and 2."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import ROOT

TEMPLATE = ROOT / "template"
PAGE = TEMPLATE / "core" / "SECURITY.md"
ANSWERS = {"met", "not met", "yours", "n/a"}
RENDERED = {"README.md": "README.md.jinja", "core/pyproject.toml": "core/pyproject.toml.jinja"}
LOCKED = "uv.lock"
"""`script/lock` writes it, as a template."""

REQUIREMENTS = """
    V1.1:1-2 V1.2:1-9 V1.3:1-11 V1.4:1-3 V1.5:1-2
    V2.1:1-3 V2.2:1-3 V2.3:1-4 V2.4:1
    V3.2:1-2 V3.3:1-4 V3.4:1-6 V3.5:1-5 V3.7:1-2
    V4.1:1-3 V4.2:1 V4.3:1-2 V4.4:1-4
    V5.1:1 V5.2:1-3 V5.3:1-2 V5.4:1-3
    V6.1:1-3 V6.2:1-12 V6.3:1-4 V6.4:1-4 V6.5:1-5 V6.6:1-3 V6.8:1-4
    V7.1:1-3 V7.2:1-4 V7.3:1-2 V7.4:1-5 V7.5:1-2 V7.6:1-2
    V8.1:1-2 V8.2:1-3 V8.3:1 V8.4:1
    V9.1:1-3 V9.2:1-4
    V10.1:1-2 V10.2:1-2 V10.3:1-4 V10.4:1-11 V10.5:1-5 V10.6:1-2 V10.7:1-3
    V11.1:1-2 V11.2:1-3 V11.3:1-3 V11.4:1-4 V11.5:1 V11.6:1
    V12.1:1-3 V12.2:1-2 V12.3:1-4
    V13.1:1 V13.2:1-5 V13.3:1-2 V13.4:1-5
    V14.1:1-2 V14.2:1-4 V14.3:1-3
    V15.1:1-3 V15.2:1-3 V15.3:1-7
    V16.1:1 V16.2:1-5 V16.3:1-4 V16.4:1-3 V16.5:1-3
    V17.1:1 V17.2:1-4 V17.3:1-2
"""
"""The requirements of levels 1 and 2. Level 3 has the last numbers of each section."""


class Row(NamedTuple):
    requirements: str
    answer: str
    reason: str
    shown_by: str


def rows() -> list[Row]:
    _, _, text = PAGE.read_text().partition("## OWASP ASVS")
    lines = re.findall(r"^\| (V\d.*) \|$", text, re.MULTILINE)
    return [Row(*(cell.strip() for cell in line.split("|"))) for line in lines]


def expand(section: str, first: str, last: str) -> Iterator[str]:
    for number in range(int(first), int(last or first) + 1):
        yield f"{section}.{number}"


def test_each_requirement_has_one_answer() -> None:
    expected = re.findall(r"(V\d+\.\d+):(\d+)(?:-(\d+))?", REQUIREMENTS)
    wanted = [each for part in expected for each in expand(*part)]
    assert len(wanted) == len(set(wanted)) == 253

    answered: list[str] = []
    for row in rows():
        for part in row.requirements.split(", "):
            match = re.fullmatch(r"(V\d+\.\d+)\.(\d+)(?:–\1\.(\d+))?", part)
            assert match, part
            answered.extend(expand(*match.groups("")))
    assert sorted(answered) == sorted(wanted)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.requirements)
def test_an_answer_names_what_shows_it(row: Row) -> None:
    assert row.answer in ANSWERS
    assert row.reason
    named = re.findall(r"`([^`]+)`", row.shown_by)
    assert bool(named) is (row.answer == "met")
    for name in named:
        file, _, test = name.partition("::")
        if file == LOCKED:
            continue
        path = TEMPLATE / RENDERED.get(file, file)
        assert path.is_file(), name
        assert not test or f"def {test}(" in path.read_text(), name
