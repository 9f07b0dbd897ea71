"""Each module of app can be imported first; otherwise one task module could not use another."""

import subprocess
import sys
from pathlib import Path

MODULES = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in Path("app").rglob("*.py"))

# A fresh interpreter that knows the machinery and nothing of app; each module is imported in a copy of it.
IMPORT_EACH = """
import importlib, os, sys
import core.service, core.web
assert not any(name.split(".")[0] == "app" for name in sys.modules)
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(f"cannot be imported alone: {', '.join(failed)}" if failed else 0)
"""


def test_each_module_imports_alone():
    assert "app.tasks.emails" in MODULES
    done = subprocess.run([sys.executable, "-c", IMPORT_EACH, *MODULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
