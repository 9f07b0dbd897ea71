"""The snippets of a service's README work: a model, settings, and CORS for another origin."""

import re
import shutil
from pathlib import Path

from conftest import ROOT, UV, duplicate, run

TASK = """
from app.settings import app_settings
from app.tasks.worker import worker


@worker.task
async def find_currency() -> str:
    return app_settings.currency
"""


def insert(path: Path, before: str, text: str) -> None:
    source = path.read_text()
    assert before in source
    path.write_text(source.replace(before, text + before, 1))


def add_settings(path: Path, block: str) -> None:
    """Add the fields that the settings do not have, because the examples need the others."""
    fields = re.findall(r"^    \w+: .*\n", block, re.MULTILINE)
    own = [field for field in fields if field not in path.read_text()]
    insert(path, "    # A field without a default", "".join(own))
    insert(path, "from core.config", "from pydantic import SecretStr\n")


def test_the_snippets(service: Path, tmp_path: Path) -> None:
    target = duplicate(service, tmp_path / "service")
    readme = (target / "README.md").read_text()
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    for name, block in blocks:
        if name == "app/settings.py":
            add_settings(target / name, block)
        else:
            (target / name).write_text(block)
    (argument,) = re.findall(r"`(middleware=\w+)`", readme)
    main = target / "app" / "main.py"
    insert(main, "from app.models", "from app.middleware import MIDDLEWARE\n")
    insert(main, "    documents=", f"    {argument},\n")
    models = target / "app" / "models" / "__init__.py"
    insert(models, "from app.models.webhook", "from app.models.parcel import Parcel\n")
    insert(models, "Subscription, ", "Parcel, ")
    (target / "app" / "tasks" / "prices.py").write_text(TASK)
    worker = target / "app" / "tasks" / "worker.py"
    worker.write_text(f"{worker.read_text()}from . import prices\n")
    for recipe in ("format", "lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=target)

    (target / ".env").write_text(f"SECRET_KEY={'x' * 48}\nMONGODB_URL=mongodb://127.0.0.1:1\n")
    done = run(UV, "run", "python", "-m", "core", "web", cwd=target, check=False)
    assert done.returncode == 2
    assert "error: settings: PAYMENT_KEY is missing" in done.stderr
    assert "x" * 5 not in done.stderr
    (target / ".env").unlink()

    shutil.copy(ROOT / "tests" / "snippets" / "test_service_readme.py", target / "tests")
    tests = [name for name, _ in blocks if name.startswith("tests/test_")]
    # The tests of the service pass with these settings and this middleware too.
    tests += ["tests/test_service_readme.py", "tests/test_orders.py", "tests/test_settings.py"]
    assert " passed" in run(UV, "run", "just", "test", *tests, cwd=target).stdout
