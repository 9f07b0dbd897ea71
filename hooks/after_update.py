"""Run by Copier in the project after a plain `copier update`, which ends as `just update` does.

Copier itself renders the answers file only (see `_exclude`): it merges file by file, and loses edits without a word.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "template" / "core" / "dev"))

from update import NEEDS_A_PERSON, git, merge, render, undo


def main() -> int:
    """Merge `core/`.

    Returns:
        4 where a person has to do something, which makes Copier's command fail; 2 where it failed; 0 otherwise.
    """
    answers_file = Path(sys.argv[1])
    after = answers_file.read_text(encoding="utf-8")
    before = git("show", f"HEAD:./{answers_file.as_posix()}")
    try:
        with TemporaryDirectory(prefix="update.") as folder:
            old, new = (
                render(text, answers_file, Path(folder, name)) for name, text in (("old", before), ("new", after))
            )
            return 0 if merge(old, new, answers_file) else NEEDS_A_PERSON
    except BaseException as error:  # Ctrl-C, too: the answers file must not move on without core/
        undo(answers_file)
        print(f"error: {str(error) or 'stopped, nothing was changed'}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
