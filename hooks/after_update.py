"""Merges `core/` after a plain `copier update`, so that it ends as `just update` does.

Copier runs this hook in the service's folder. Copier itself renders only the answers file (see
`_exclude` in copier.yml), because it merges file by file and loses edits without a message.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "template"))

from core.update.render import render
from core.update.service import Service

EXIT_FAILED = 2


def main() -> int:
    """Merge `core/` and return the exit status. Copier's command fails unless it is 0.

    Returns:
        0, 2 if the update failed and was undone, or 4 if there are conflicts.
    """
    answers_file = Path(sys.argv[1])
    service = Service(answers_file)
    after = answers_file.read_text(encoding="utf-8")
    before = service.text("show", f"HEAD:./{answers_file.as_posix()}")
    try:
        with TemporaryDirectory(prefix="update.") as folder:
            old = render(before, answers_file, Path(folder, "old"))
            new = render(after, answers_file, Path(folder, "new"))
            return service.merge(old, new)
    except BaseException as error:  # also Ctrl-C: the answers file must not change without core/
        service.restore()
        reason = str(error) or "stopped, nothing was changed"
        print(f"error: {reason}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
