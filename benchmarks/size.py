"""Lines of rendered Python without tests. To reach: at most 2,500; modules near 100 lines.

Counted twice: every line, and those that hold code (no blank lines, comments and docstrings). The ratio is against
the lines of its tests.

    script/uv run python benchmarks/size.py
"""

import ast
import io
import tokenize
from pathlib import Path
from statistics import median

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
LONGEST = 5
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines with code on them."""
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def main() -> None:
    sources = {path.relative_to(TEMPLATE): path.read_text() for path in TEMPLATE.rglob("*.py")}
    lines = {path: len(source.splitlines()) for path, source in sources.items()}
    modules = {path for path in sources if "tests" not in path.parts}
    total = sum(lines[path] for path in modules)
    code = sum(code_lines(sources[path]) for path in modules)
    tested = sum(lines.values()) - total
    print(
        f"{code} lines of code, {total} lines in all (to reach: 2500), {total / tested:.1f}x the {tested} of its tests"
    )
    print(f"{len(modules)} modules, median {median(lines[path] for path in modules):.0f} lines; the longest:")
    for path in sorted(modules, key=lambda path: -lines[path])[:LONGEST]:
        print(f"{lines[path]:5} {path}")


if __name__ == "__main__":
    main()
