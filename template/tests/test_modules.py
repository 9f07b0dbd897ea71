"""Each module of app can be imported first; otherwise one task module could not use another."""

import subprocess
import sys
from pathlib import Path

MODULES = sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in Path("app").rglob("*.py"))

# In a fresh interpreter; what app needs from elsewhere is loaded once, and each module is imported in a copy of it.
IMPORT_EACH = """
import importlib, os, sys
import app.main
from core.tasks.worker import worker
for name in [name for name in sys.modules if name.split(".")[0] == "app"]:
    del sys.modules[name]
worker.__init__()
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
    assert "app.tasks.worker" in MODULES
    done = subprocess.run([sys.executable, "-c", IMPORT_EACH, *MODULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
