"""Runs the tests of `core/`. `just ci` skips them if nothing changed since they passed.

Run it as `python -m core.dev.core_tests`, with `--if-changed` or with options of pytest.
"""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from core.config import ROOT

PASSED = ROOT / ".dev" / "core-tests-passed"
"""Holds the digest with which the tests passed."""
SKIPPED = "core/ has not changed since its tests passed; `just test-core` runs them anyway."
PYTEST = [sys.executable, "-m", "pytest", "-n", "auto", "--maxprocesses", "4"]


def compute_digest(root: Path) -> str:
    """Return a digest of `core/`, `uv.lock` and the Python version.

    Args:
        root: The service's folder.
    """
    digest = sha256(repr(sys.version_info[:2]).encode())
    for path in [*sorted((root / "core").rglob("*")), root / "uv.lock"]:
        name = path.relative_to(root)
        is_cache = any(part == "__pycache__" or part.startswith(".") for part in name.parts)
        if path.is_file() and not is_cache:
            digest.update(f"{name}\0".encode())
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main(arguments: list[str]) -> int:
    """Run the tests, and remember the digest if all of them passed.

    Args:
        arguments: `--if-changed` alone to skip tests that passed already, or options of pytest,
            which may name tests. With options, the digest is not remembered.

    Returns:
        The exit status.
    """
    if_changed = arguments == ["--if-changed"]
    options = [] if if_changed else arguments
    digest = compute_digest(ROOT)
    if if_changed and PASSED.exists() and PASSED.read_text() == digest:
        print(SKIPPED)
        return 0
    has_paths = any(option.startswith("core/tests") for option in options)
    chosen = options if has_paths else ["core/tests", *options]
    status = subprocess.run([*PYTEST, *chosen], cwd=ROOT).returncode
    if status == 0 and not options:
        PASSED.parent.mkdir(exist_ok=True)
        PASSED.write_text(digest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
