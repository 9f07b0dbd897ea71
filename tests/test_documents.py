"""The documents name only what exists: files, sections, settings, and messages."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

TEMPLATE = ROOT / "template"
CORE = TEMPLATE / "core"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "AGENTS.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").rglob("*.md"),
    TEMPLATE / "README.md.jinja",
    TEMPLATE / "AGENTS.md",
    TEMPLATE / "CONTRIBUTING.md",
    TEMPLATE / "app" / "tasks" / "README.md",
    *(CORE / "docs").glob("*.md"),
    CORE / "SECURITY.md",
    ROOT / "SECURITY.md",
]

OTHER = {"FREE_SHIPPING", "JOB_ID", "OTEL_EXPORTER_OTLP_ENDPOINT", "PAYMENT_KEY"}
"""Names of other programs, of arguments, and of examples."""


def name_document(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_document)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if target == TEMPLATE / "README.md":
            target = TEMPLATE / "README.md.jinja"
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_settings_exist() -> None:
    """Each variable in a document of a service is a setting. `OTHER` lists the rest."""
    files = (CORE / "config" / "settings.py", TEMPLATE / "app" / "settings.py")
    config = "".join(path.read_text() for path in files)
    settings = {name.upper() for name in re.findall(r"^    (\w+): ", config, re.MULTILINE)}
    named = {
        name
        for document in DOCUMENTS
        if document.is_relative_to(TEMPLATE)
        for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", document.read_text())
    }
    assert len(named) > 15
    assert named - settings == OTHER


def test_messages_exist() -> None:
    """The code has each bold message of the troubleshooting page, apart from numbers."""
    source = "".join(path.read_text() for path in CORE.rglob("*.py"))
    troubleshooting = (CORE / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\*\*`([^`]+)`\*\*", troubleshooting, re.MULTILINE)
    assert len(messages) > 5
    for message in messages:
        for part in re.split(r"\d+", message):
            assert part in source, message


@pytest.mark.parametrize("page", [CORE / "SECURITY.md", ROOT / "docs" / "guarantees.md"])
def test_each_line_of_a_promise_names_its_test(page: Path) -> None:
    text, _, _ = page.read_text().partition("## OWASP ASVS")  # test_security.py checks that table
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    claims = [row for row in rows if re.search(r"::|chaos `", row)]
    assert len(claims) > 15
    assert all(row.endswith((" test |", " shown by |")) for row in rows if row not in claims)
    chaos = (ROOT / "benchmarks" / "chaos_driver_faults.py").read_text()
    for claim in claims:
        for name, test in re.findall(r"`([\w/]+\.py)::(\w+)`", claim):
            tests = ROOT / "tests" if "/" not in name else CORE / "tests"
            assert f"def {test}(" in (tests / name).read_text(), claim
        for scenario in re.findall(r"chaos `(\w+)`", claim):
            assert f'"{scenario}": Scenario(' in chaos, claim
