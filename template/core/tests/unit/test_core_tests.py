"""The digest that decides whether `just ci` runs these tests."""

from pathlib import Path

import pytest

from core.dev.core_tests import compute_digest

FILES = {
    "app/main.py": "app",
    "core/config.py": "config",
    "core/tests/__pycache__/test.pyc": "compiled",
    "core/.ruff_cache/CACHEDIR.TAG": "cached",
    "uv.lock": "locked",
}


@pytest.fixture
def root(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_only_code_of_core_and_the_lock_count(root, name):
    before = compute_digest(root)
    (root / name).write_text("changed")
    counts = name in ("core/config.py", "uv.lock")
    assert (compute_digest(root) != before) is counts


def test_a_new_name_changes_the_digest(root):
    before = compute_digest(root)
    (root / "core" / "config.py").rename(root / "core" / "settings.py")
    assert compute_digest(root) != before
    (root / "core" / "settings.py").rename(root / "core" / "config.py")
    assert compute_digest(root) == before


def test_the_python_version_changes_the_digest(root, monkeypatch):
    before = compute_digest(root)
    monkeypatch.setattr("sys.version_info", (3, 99, 0, "final", 0))
    assert compute_digest(root) != before
