"""The command `just update`. It needs no other module if an update was interrupted.

Such an update may have replaced half of the modules. Its journal holds all of them.
"""

import os
import subprocess
import sys
from pathlib import Path


def _find_journal() -> Path:
    command = ["git", "rev-parse", "--git-path", "core-update"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # nosec B607
    except FileNotFoundError:  # no git
        return Path("core-update")
    return Path(done.stdout.strip() or "core-update")


def main() -> int:
    """Run the command, and return its exit status."""
    code = _find_journal() / "core" / "update" / "journal.py"
    if code.exists():
        run_journal = [sys.executable, "-B", str(code)]
        if {"--undo", "--continue"} & {*sys.argv}:
            os.execv(run_journal[0], [*run_journal, *sys.argv[1:]])  # noqa: S606  # nosec B606
        done = subprocess.run(run_journal, check=False)  # checks that no update was interrupted
        if done.returncode:
            return done.returncode
    match sys.argv[1:]:
        case ["weekly", *arguments]:
            from core.update import weekly

            return weekly.main(arguments)
        case ["eject"]:
            from core.update import eject

            return eject.main()
        case _:
            from core.update import command

            return command.main()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("error: stopped, nothing was changed")
