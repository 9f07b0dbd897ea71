"""Each module of app can be imported first; otherwise one task module could not use another."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODULES = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in Path("app").rglob("*.py"))


def import_alone(module: str) -> str:
    """What a fresh interpreter says when it imports just this module; nothing where it is fine."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    return done.stderr


def test_each_module_imports_alone():
    assert "app.tasks.emails" in MODULES
    with ThreadPoolExecutor() as pool:
        errors = dict(zip(MODULES, pool.map(import_alone, MODULES), strict=True))
    assert errors == dict.fromkeys(MODULES, "")
