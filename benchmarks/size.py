"""Lines of rendered Python without tests. To reach: at most 2,500; modules near 100 lines.

The ratio is against the lines of its tests.

    script/uv run python benchmarks/size.py
"""

from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
LONGEST = 5


def main() -> None:
    lines = {path.relative_to(TEMPLATE): len(path.read_text().splitlines()) for path in TEMPLATE.rglob("*.py")}
    tests = {path for path in lines if "tests" in path.parts}
    code = {path: number for path, number in lines.items() if path not in tests}
    total, tested = sum(code.values()), sum(lines[path] for path in tests)
    print(f"{total} lines in {len(code)} modules (to reach: 2500), {total / tested:.1f}x the {tested} lines of tests")
    for path, number in sorted(code.items(), key=lambda item: -item[1])[:LONGEST]:
        print(f"{number:5} {path}")


if __name__ == "__main__":
    main()
