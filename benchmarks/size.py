"""Size of the rendered Python in `core/` and `app/`, without tests.

To reach: at most 33 characters and 6 nodes a code line. A code line is a physical line that holds
code, not only a comment or a docstring. Its characters are counted without indentation. Its nodes
are the nodes of the syntax tree that are not statements.

    script/uv run python benchmarks/size.py [--rooms]

With --rooms, each folder and each of its modules has a row. Modules with most nodes a line come
first.
"""

import argparse
import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
ROOMS = ("core", "app")
MAX_CHARACTERS = 33
MAX_NODES = 6
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass
class Size:
    """The size of one or more modules: lines, code lines, characters and nodes on code lines."""

    lines: int = 0
    code: int = 0
    characters: int = 0
    nodes: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(
            self.lines + other.lines,
            self.code + other.code,
            self.characters + other.characters,
            self.nodes + other.nodes,
        )

    @property
    def characters_per_line(self) -> float:
        return self.characters / max(self.code, 1)

    @property
    def nodes_per_line(self) -> float:
        return self.nodes / max(self.code, 1)


def code_lines(source: str, docstrings: list[ast.Expr]) -> set[int]:
    """Return the numbers of the lines that hold code."""
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in docstrings:
        held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return held


def find_docstrings(tree: ast.Module) -> list[ast.Expr]:
    """Return the strings that stand alone, including the docstrings of attributes."""
    docstrings = []
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                docstrings.append(node)
    return docstrings


def measure(source: str) -> Size:
    """Return the size of a module."""
    tree = ast.parse(source)
    docstrings = find_docstrings(tree)
    lines = source.splitlines()
    code = code_lines(source, docstrings)
    nodes = sum(not isinstance(node, ast.stmt) for node in ast.walk(tree))
    return Size(
        lines=len(lines),
        code=len(code),
        characters=sum(len(lines[number - 1].strip()) for number in code),
        nodes=nodes - len(docstrings),
    )


def measure_room(room: Path) -> dict[Path, Size]:
    """Return the size of each module in a folder and the folders below it, without tests."""
    modules = [path for path in sorted(room.rglob("*.py")) if "tests" not in path.parts]
    return {path.relative_to(room.parent): measure(path.read_text()) for path in modules}


def print_summary(name: str, sizes: dict[Path, Size]) -> None:
    total = sum(sizes.values(), Size())
    longest = max(sizes, key=lambda path: sizes[path].lines)
    middle = median(size.lines for size in sizes.values())
    print(f"{name}/: {total.lines} lines, of which {total.code} hold code")
    print(
        f"  {len(sizes)} modules, median {middle:.0f} lines, "
        f"longest {sizes[longest].lines} ({longest})"
    )
    print(
        f"  a code line has {total.characters_per_line:.1f} characters (at most {MAX_CHARACTERS})"
        f" and {total.nodes_per_line:.1f} nodes (at most {MAX_NODES})"
    )


def print_row(name: str, size: Size) -> None:
    averages = f"{size.characters_per_line:6.1f} {size.nodes_per_line:6.1f}"
    print(f"{size.lines:6} {size.code:6} {averages}  {name}")


def print_folders(sizes: dict[Path, Size]) -> None:
    print(f"{'lines':>6} {'code':>6} {'chars':>6} {'nodes':>6}")
    for folder in sorted({path.parent for path in sizes}):
        modules = [path for path in sizes if path.parent == folder]
        modules.sort(key=lambda path: -sizes[path].nodes_per_line)
        print_row(f"{folder}/", sum((sizes[path] for path in modules), Size()))
        for path in modules:
            print_row(f"  {path.name}", sizes[path])


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the size of core/ and app/.")
    parser.add_argument("--rooms", action="store_true", help="print each folder and module")
    arguments = parser.parse_args()
    for name in ROOMS:
        sizes = measure_room(TEMPLATE / name)
        print_summary(name, sizes)
        if arguments.rooms:
            print_folders(sizes)


if __name__ == "__main__":
    main()
