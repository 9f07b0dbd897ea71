"""Writes the files of `just new`: all of them, or none."""

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from core.config import ROOT
from core.dev.scaffold.names import Names, make_names
from core.dev.scaffold.register import BY_HAND, register
from core.dev.scaffold.source import OtherShape, polish
from core.dev.scaffold.taken import check_free
from core.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"


def create(kind: str, given: str) -> list[str]:
    """Write a file, its registration and its test.

    Args:
        kind: `task`, `route`, `model` or `migration`.
        given: The name.

    Returns:
        Lines that name the files, and the line that a person must add, if any.

    Raises:
        UserError: The name cannot be used, or a file cannot be written. Nothing was written.
    """
    names = make_names(kind, given)
    module, test = _choose_paths(kind, names)
    _refuse_existing(kind, names, module, test)
    check_free(kind, names)
    new = {
        module: _render(kind, names, module),
        test: _render(f"test_{kind}", names, test),
    }
    lines = [f"wrote {_show(path)}" for path in new]
    changed: dict[Path, bytes] = {}
    try:
        if source := register(kind, names):
            changed[source.path] = source.render()
            lines.append(f"changed {_show(source.path)}")
    except OtherShape:
        lines.append(f"By hand: {BY_HAND[kind].format_map(names.as_dict())}")
    _write(new | changed)
    return lines


def _choose_paths(kind: str, names: Names) -> tuple[Path, Path]:
    app, tests = ROOT / "app", ROOT / "tests"
    if kind == "migration":
        time = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        folder = app / "migrations"
        return folder / f"{time}_{names.name}.py", tests / f"test_migration_{names.name}.py"
    test = tests / f"test_{names.name}.py"
    if test.exists():  # a task and a model may have the same name
        test = tests / f"test_{names.name}_{kind}.py"
    return app / f"{kind}s" / f"{names.name}.py", test


def _refuse_existing(kind: str, names: Names, module: Path, test: Path) -> None:
    folder = module.parent
    if (file := folder.with_suffix(".py")).exists():
        problem = f"{_show(file)} exists, and new files would be in {_show(folder)}/"
        hint = f"Make it a package first: move it to {_show(folder)}/__init__.py"
        raise UserError(f"{problem}. {hint}. Nothing was written.")
    same_name: list[Path] = []
    if kind == "migration":
        same_name += module.parent.glob(f"{'[0-9]' * 14}_{names.name}.py")
    for path in (module, module.with_suffix(""), test, *same_name):
        if path.exists():
            problem = f"{_show(path)} exists"
            raise UserError(f"{problem}. Choose another name. Nothing was written.")


def _render(template: str, names: Names, path: Path) -> bytes:
    text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
    return polish(path, Template(text).substitute(names.as_dict()).encode())


def _show(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _write(files: Mapping[Path, bytes]) -> None:
    """Write files under other names first, so a full disk harms no existing file."""
    try:
        with ExitStack() as undo:
            drafts = {path: _write_draft(path, data, undo) for path, data in files.items()}
            for path, draft in drafts.items():
                if path.exists():
                    shutil.copymode(path, draft)
                    undo.callback(path.write_bytes, path.read_bytes())
                else:
                    undo.callback(path.unlink, missing_ok=True)
                os.replace(draft, path.resolve())
            undo.pop_all()
    except OSError as error:
        problem = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
        raise UserError(f"{problem}. Nothing was written.") from error


def _write_draft(path: Path, data: bytes, undo: ExitStack) -> Path:
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir()
            undo.callback(folder.rmdir)
    draft = path.resolve().with_name(f".{path.name}.new")
    undo.callback(draft.unlink, missing_ok=True)
    draft.write_bytes(data)
    return draft
