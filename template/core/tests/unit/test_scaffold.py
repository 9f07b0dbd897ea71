"""`just new`: names, and the lists of a service in the shapes that users give them."""

import ast
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core.dev.scaffold import register, source, write
from core.dev.scaffold.names import USED, make_names
from core.dev.scaffold.source import OtherShape
from core.errors import UserError

MAIN = "from core.entry import Service\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the service's."""
    (tmp_path / "app").mkdir()
    for module in (register, source, write):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(register, "MAIN", tmp_path / "app" / "main.py")
    monkeypatch.setattr(register, "WORKER", tmp_path / "app" / "worker.py")
    return tmp_path


def change(root: Path, kind: str, name: str, **files: str) -> dict[str, str]:
    """Return the file that `just new` changes, by its name."""
    for file, text in files.items():
        (root / "app" / f"{file}.py").write_text(text)
    changed = register.register(kind, make_names(kind, name))
    assert changed
    return {changed.path.stem: changed.render().decode()}


@pytest.mark.parametrize(
    ("given", "module", "class_name", "collection"),
    [
        ("SalesOrder", "sales_order", "SalesOrder", "sales_orders"),
        ("sales_order", "sales_order", "SalesOrder", "sales_orders"),
        ("Category", "category", "Category", "categories"),
        ("Day", "day", "Day", "days"),
        ("News", "news", "News", "news"),
        ("Box", "box", "Box", "boxes"),
        ("Branch", "branch", "Branch", "branches"),
        ("Address", "address", "Address", "addresses"),
        ("Invoice2", "invoice2", "Invoice2", "invoice2s"),
    ],
)
def test_names_of_a_model(given, module, class_name, collection):
    names = make_names("model", given)
    assert (names.name, names.class_name, names.collection) == (module, class_name, collection)


@pytest.mark.parametrize(
    ("kind", "given", "error"),
    [
        ("task", "send-bill", "'send-bill' is not a name for a task. Use lowercase letters"),
        ("task", "SendBill", "'SendBill' is not a name for a task"),
        ("task", "2_bills", "'2_bills' is not a name"),
        ("task", "_bill", "'_bill' is not a name"),
        ("task", "", "'' is not a name"),
        ("route", "../bill", "is not a name for a route"),
        ("model", "Sales Order", "such as Invoice or sales_order"),
        ("task", "b" * 41, "is not a name"),
        ("task", "import", "import is a name of Python"),
        ("task", "print", "print is a name of Python"),
        ("model", "import_error", "ImportError is a name of Python"),
        ("model", "Class", "Class is a name of Python|class is a name of Python"),
        ("task", "job", "a task cannot have the name job"),
        ("task", "test_mail", "a task cannot have the name test_mail, because its files or pytest"),
        ("model", "Field", "a model cannot have the name Field"),
        ("model", "test_run", "a model cannot have the name TestRun"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(kind, given, error):
    with pytest.raises(UserError, match=error) as caught:
        make_names(kind, given)
    assert "Nothing was written." in str(caught.value)


@pytest.mark.parametrize("kind", ["task", "model"])
def test_no_name_of_a_template_is_free(kind):
    """Otherwise a new file could hide a name that it uses itself."""
    found: set[str] = set()
    for template in (kind, f"test_{kind}"):
        text = (write.TEMPLATES / f"{template}.txt").read_text()
        tree = ast.parse(re.sub(r"\$(\{\w+\}|\w+)", "new", text))
        for node in ast.walk(tree):
            if isinstance(node, ast.alias):
                found.add(node.name)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    # A class begins with an uppercase letter, and hides no other name.
    used = {name for name in found - {"new"} if name[0].isupper() == (kind == "model")}
    assert used == USED[kind]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from . import mails, texts\n", "from . import mails, send_bill, texts\n"),
        ("from . import texts, mails  # mine\n", "from . import texts, mails, send_bill  # mine\n"),
        (
            "from . import (  # mine\n    mails,  # first\n    texts,\n)\n",
            "from . import (  # mine\n    mails,  # first\n    send_bill,\n    texts,\n)\n",
        ),
        ("from . import (\n    mails\n)\n", "from . import (\n    mails, send_bill\n)\n"),
    ],
)
def test_a_task_is_imported(root, before, after):
    head = "from core.tasks.worker import worker\n\n# Last.\n"
    changed = change(root, "task", "send_bill", worker=head + before)
    assert changed["worker"] == head + after


def test_the_first_task_is_imported_last(root):
    text = "from core.tasks.worker import worker\n"
    changed = change(root, "task", "send_bill", worker=text)
    assert changed["worker"].startswith(text)
    assert changed["worker"].endswith("from . import send_bill\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("routers=[a.router, z.router]", "routers=[a.router, bills.router, z.router]"),
        ("routers=[z.router, a.router]", "routers=[z.router, a.router, bills.router]"),
        ("routers=[]", "routers=[bills.router]"),
        ("routers=[*more, a.router]", "routers=[*more, a.router, bills.router]"),
    ],
)
def test_a_router_is_listed(root, before, after):
    main = f"from app.routes import a, z\n{MAIN}\nmore = []\nservice = Service({before})\n"
    changed = change(root, "route", "bills", main=main)["main"]
    assert "from app.routes import a, bills, z\n" in changed
    assert after in changed


def test_a_list_may_have_a_name_or_be_in_another_module(root):
    main = f"from app.lists import DOCUMENTS as D\n{MAIN}\nROUTERS = []\n"
    main += "service = Service(routers=ROUTERS, documents=D)\n"
    lists = "from beanie import Document\n\nDOCUMENTS: list[type[Document]] = []\n"
    changed = change(root, "route", "bills", main=main, lists=lists)
    assert "from app.routes import bills\n" in changed["main"]
    assert "ROUTERS = [bills.router]\n" in changed["main"]
    changed = change(root, "model", "Bill")
    assert "from app.models.bill import Bill\n" in changed["lists"]
    assert "DOCUMENTS: list[type[Document]] = [Bill]\n" in changed["lists"]


@pytest.mark.parametrize(
    ("head", "after"),
    [
        (
            "from core.entry import Service  # noqa: X1\n",
            "from core.entry import Service  # noqa: X1\nfrom app.models.bill import Bill\n",
        ),
        ('"""Mine."""  # first\n', '"""Mine."""  # first\nfrom app.models.bill import Bill\n'),
        ("", "from app.models.bill import Bill\n"),
    ],
)
def test_an_import_is_a_separate_line(root, head, after):
    listed = "service = Service( documents=[] )"
    changed = change(root, "model", "Bill", main=f"{head}{listed}")
    assert changed["main"] == f"{after}{listed.replace('[]', '[Bill]')}"
    changed = change(root, "model", "Bill", main=f"{listed}; import os  # last")
    added = f"{listed.replace('[]', '[Bill]')}; import os  # last\nfrom app.models.bill import Bill"
    assert changed["main"] == f"{added}\n"


def test_what_is_not_formatted_keeps_its_form(root):
    main = f"{MAIN}import os\n\nservice = Service( documents=['ä'] )\n".replace("\n", "\r\n")
    (root / "app" / "main.py").write_bytes(main.encode())
    changed = register.register("model", make_names("model", "Bill"))
    assert changed
    added = main.replace("import os", "from app.models.bill import Bill\r\nimport os")
    assert changed.render().decode() == added.replace("'ä'", "'ä', Bill")


@pytest.mark.parametrize(
    "main",
    [
        "",
        "service = (\n",
        f"{MAIN}service = make_service()\n",
        f"{MAIN}service = Service(routers=list_routers())\n",
        f"{MAIN}service = Service(routers=(a.router,))\n",
        f"{MAIN}service = Service(routers=ROUTERS)\n",
        f"{MAIN}service = Service()\n",
        f"{MAIN}one = Service(routers=[])\ntwo = Service(routers=[])\n",
        f"from app.routes import *\n{MAIN}service = Service(routers=[])\n",
        f"{MAIN}service = Service(routers=[(a.router)])\n",
    ],
)
def test_another_shape_is_left_to_a_person(root, main):
    with pytest.raises(OtherShape):
        change(root, "route", "bills", main=main)
    assert (root / "app" / "main.py").read_text() == main


def test_a_missing_file_is_left_to_a_person(root):
    for kind in ("task", "route", "model"):
        with pytest.raises(OtherShape):
            register.register(kind, make_names(kind, "bill"))


def test_a_name_that_the_file_uses_is_refused(root):
    main = f"{MAIN}bills = 1\nservice = Service(routers=[], documents=[])\n"
    with pytest.raises(UserError, match=r"app/main\.py already uses the name bills"):
        change(root, "route", "bills", main=main)
    with pytest.raises(UserError, match=r"app/main\.py already uses the name Service"):
        change(root, "model", "Service")


def test_a_full_disk_leaves_every_file_as_it_was(root, monkeypatch):
    """At each step: while the drafts are written, and while they take their places."""
    listed = root / "app" / "worker.py"
    files = {root / "app" / "tasks" / "bill.py": b"new", root / "new.py": b"new", listed: b"after"}
    calls: dict[str, Callable[..., object]] = {
        "write_bytes": Path.write_bytes,
        "replace": os.replace,
    }
    for name, limit in (("write_bytes", 1), ("write_bytes", 3), ("replace", 2), ("replace", 3)):
        listed.write_text("before")
        made = 0

        def fail(*arguments: object, name: str = name, limit: int = limit) -> object:
            nonlocal made
            made += 1
            if made == limit:
                raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
            return calls[name](*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Path if name == "write_bytes" else os, name, fail)
            with pytest.raises(UserError, match=r"No space left on device\. Nothing was written"):
                write._write(files)
        assert made >= limit
        found = {str(path.relative_to(root)) for path in root.rglob("*")}
        assert found == {"app", "app/worker.py"}
        assert listed.read_text() == "before"
    write._write(files)
    assert listed.read_bytes() == b"after"
