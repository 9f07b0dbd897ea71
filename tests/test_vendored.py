"""The files from npm that a service carries."""

import gzip
import hashlib
import tomllib

import pytest
from conftest import ROOT

TABLE = tomllib.loads((ROOT / "script" / "vendored.toml").read_text())
FILES = [(name, file) for name, package in TABLE.items() for file in package["files"]]


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_vendored_file_is_the_one_of_its_package(name: str, file: dict[str, str]) -> None:
    path = ROOT / "template" / file["to"]
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    assert hashlib.sha256(content).hexdigest() == file["sha256"]


@pytest.mark.parametrize("name", TABLE)
def test_a_vendored_package_comes_with_its_licence(name: str) -> None:
    targets = [file["to"] for file in TABLE[name]["files"] if "LICENSE" in file["from"]]
    assert targets
    assert all("licences/" in target for target in targets)
    assert TABLE[name]["licence"] in ("Apache-2.0", "MIT", "0BSD", "BSD-2-Clause", "BSD-3-Clause")
