"""A Python file of the user. Names are inserted into it, and no other byte changes."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from core.config import ROOT


class OtherShape(Exception):
    """The file does not look as expected, so a person must change it."""


class Source:
    """A file, its syntax tree, and the texts to insert.

    Args:
        path: The file.

    Raises:
        OtherShape: The file does not exist, or cannot be parsed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = path.read_bytes()
            self.tree = ast.parse(self._data.decode())
        except (OSError, ValueError, SyntaxError):
            raise OtherShape from None
        self._insertions: list[tuple[int, bytes]] = []
        self._starts = [0]
        for line in self._data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def bound_names(self) -> set[str]:
        """Return the names that the file imports, assigns or defines, at any level."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.alias):
                names.add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
        return names

    def find_import(self, module: str | None, level: int) -> ast.ImportFrom | None:
        """Return the last `from MODULE import NAMES` of the top level.

        Args:
            module: The module. None stands for `from . import NAMES`.
            level: The number of dots.
        """
        found = None
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module, node.level) == (module, level):
                found = node
        return found

    def find_value(self, name: str) -> ast.expr | None:
        """Return the value that the top level assigns to a name.

        Args:
            name: The name.
        """
        found = None
        for node in self.tree.body:
            if isinstance(node, ast.AnnAssign):
                targets: list[ast.expr] = [node.target]
            elif isinstance(node, ast.Assign):
                targets = node.targets
            else:
                continue
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found = node.value
        return found

    def add_item(self, item: str, items: Sequence[ast.expr | ast.alias], start: int) -> None:
        """Insert an item into a list: in order if the list is sorted, otherwise at the end.

        Args:
            item: The text of the item.
            items: The items of the list.
            start: The offset of the list's first item, if the list is empty.

        Raises:
            OtherShape: An item has its own parentheses.
        """
        if any(self._is_wrapped(each) for each in items):
            raise OtherShape
        texts = [self._text(each) for each in items]
        is_sorted = texts == sorted(texts)
        later = [each for each, text in zip(items, texts, strict=True) if text > item]
        if later and is_sorted:
            self._insert(self.start(later[0]), f"{item}, ")
        elif items:
            self._insert(self._end(items[-1]), f", {item}")
        else:
            self._insert(start, item)

    def add_import(self, line: str) -> None:
        """Insert an import below the first one, or below the docstring.

        Args:
            line: The statement.
        """
        after: list[ast.stmt] = [each for each in self.tree.body[:1] if isinstance(each, ast.Expr)]
        imports: list[ast.stmt]
        imports = [each for each in self.tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
        other = [each for each in imports if getattr(each, "module", "") != "__future__"]
        after += other[:1] or imports[-1:]
        last_line = after[-1].end_lineno if after else 0
        assert last_line is not None
        # A separate line, so a comment behind the first import stays there.
        before = self._data[: self._starts[last_line]]
        newline = "\n" if before and not before.endswith((b"\n", b"\r")) else ""
        self._insert(len(before), f"{newline}{line}\n")

    def append(self, text: str) -> None:
        """Insert lines at the end of the file.

        Args:
            text: The lines.
        """
        self._insert(len(self._data), text)

    def render(self) -> bytes:
        """Return the file with the insertions. If ruff accepted it before, ruff formats the result.

        Raises:
            OtherShape: The result is not Python.
        """
        data = self._data
        newline = b"\r\n" if b"\r\n" in data else b"\n"
        for offset, text in sorted(self._insertions, key=lambda each: each[0], reverse=True):
            data = data[:offset] + text.replace(b"\n", newline) + data[offset:]
        try:
            ast.parse(data.decode())
        except SyntaxError:
            raise OtherShape from None
        is_clean = polish(self.path, self._data) == self._data
        return polish(self.path, data) if is_clean else data

    def start(self, node: ast.expr | ast.stmt | ast.alias) -> int:
        """Return the offset of a node's first byte.

        Args:
            node: A node of this file.
        """
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt | ast.alias) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.alias) -> str:
        return self._data[self.start(node) : self._end(node)].decode()

    def _is_wrapped(self, node: ast.expr | ast.alias) -> bool:
        before = self._data[: self.start(node)].rstrip()
        return isinstance(node, ast.expr) and before.endswith(b"(")

    def _insert(self, offset: int, text: str) -> None:
        self._insertions.append((offset, text.encode()))


def polish(path: Path, data: bytes) -> bytes:
    """Return a file after ruff has sorted its imports and formatted it, with the user's settings.

    Args:
        path: The file's path. It determines which settings ruff uses.
        data: The content. It is returned unchanged if ruff cannot read it.
    """
    name = ["--stdin-filename", str(path), "-"]
    for command in (["check", "--quiet", "--select", "I", "--fix-only"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, *name]
        done = subprocess.run(ruff, input=data, capture_output=True, cwd=ROOT)
        if done.returncode:
            break
        data = done.stdout
    return data
