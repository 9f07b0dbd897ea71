"""Run by Copier in the project after an update: says what the update could not merge, and fails then.

Plain `copier update` leaves conflict markers in files and ends with status 0.
"""

import subprocess
import sys
from pathlib import Path

CORE = Path("core")


def files() -> list[Path]:
    """The files of core that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", str(CORE)],
        capture_output=True,
        check=True,
    )
    names = {name for name in listed.stdout.decode(errors="surrogateescape").split("\0") if name}
    return sorted(path for path in map(Path, names) if path.is_file())


def has_markers(path: Path) -> bool:
    """Whether a file holds both ends of a conflict as git marks it."""
    lines = path.read_bytes().splitlines()
    return any(line.startswith(b"<<<<<<< ") for line in lines) and any(line.startswith(b">>>>>>> ") for line in lines)


def main() -> int:
    """Name each file that needs a person.

    Returns:
        1 where there is one, which makes Copier's command fail; 0 otherwise.
    """
    conflicts = [f"{path}: your edit and the update's touch the same lines" for path in files() if has_markers(path)]
    rejected = [f"{path}: the part of your edit that did not fit" for path in files() if path.suffix == ".rej"]
    if not conflicts + rejected:
        return 0
    print("The update is done, but for these files:", file=sys.stderr)
    for problem in conflicts + rejected:
        print(f"  {problem}", file=sys.stderr)
    print("Edit each one to what it should be, then commit.", file=sys.stderr)
    print("To undo the update: git reset --hard && git clean -fd core", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
