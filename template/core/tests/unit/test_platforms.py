"""The platforms without wheels of the development servers. The tests pass the platform in."""

import pytest

from core.config import ROOT
from core.dev import platforms, programs
from core.errors import UserError


@pytest.mark.parametrize(
    ("system", "machine", "libc", "named"),
    [
        ("linux", "x86_64", "", "Linux with musl"),
        ("linux", "aarch64", "musl", "Linux with musl"),
        ("linux", "riscv64", "glibc", "riscv64 machines"),
        ("linux", "armv7l", "glibc", "armv7l machines"),
        ("freebsd14", "amd64", "", "freebsd14"),
    ],
)
def test_a_platform_without_wheels_is_named(system, machine, libc, named):
    line = platforms.explain_missing_wheels(system, machine, libc)
    assert line
    assert line.startswith(f"MongoDB and Valkey have no wheels for {named}")
    assert "MONGODB_URL" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("linux", "x86_64", "glibc"),
        ("linux", "aarch64", "glibc"),
        ("darwin", "x86_64", ""),
        ("darwin", "arm64", ""),
    ],
)
def test_a_platform_with_wheels_is_not_named(system, machine, libc):
    assert platforms.explain_missing_wheels(system, machine, libc) is None


@pytest.mark.parametrize("find", [programs.find_mongod, programs.find_valkey])
def test_a_missing_server_on_musl_is_one_line(monkeypatch, tmp_path, find):
    """No machine with musl is at hand, so its answer is given, and no program is found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "find_in_wheel", lambda package, path: None)
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(UserError, match="MongoDB and Valkey have no wheels for"):
        find()


def test_the_page_that_the_line_names_has_the_section():
    page, section = platforms.HELP.split('"')[:2]
    text = (ROOT / page.strip(" ,")).read_text()
    assert f"## {section.strip(' ,')}\n" in text
