"""Merges `core/` after a plain `copier update`, so that it ends as `just update` does.

Copier runs this hook in the service's folder. Copier itself renders nothing (see `_exclude` in
copier.yml), because it merges file by file and loses edits without a message.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "template"))

from copier.errors import CopierError

from core.update import EXIT_FAILED
from core.update.answers import list_answer_changes, read_answers
from core.update.git import UpdateError
from core.update.render import render, render_current
from core.update.service import Service


def main(answers_file: Path, new_answers: str) -> int:
    """Merge `core/`. Copier's command fails unless the exit status is 0.

    Args:
        answers_file: The path of the answers file, which names the service's version.
        new_answers: The answers for the new version, as JSON, which YAML contains.

    Returns:
        The exit status: 0, 2 if the update failed, or 3 if there are conflicts.
    """
    try:
        answers = answers_file.read_text(encoding="utf-8")
        with TemporaryDirectory(prefix="update.") as folder:
            old = render_current(answers, answers_file, Path(folder, "old"))
            new = render(new_answers, answers_file, Path(folder, "new"))
            before, after = read_answers(answers_file), read_answers(new / answers_file)
            for line in list_answer_changes(before, after):
                print(line, flush=True)
            return Service(answers_file).merge(old, new)
    except KeyboardInterrupt:
        problem = "stopped, nothing was changed"
    except (UpdateError, CopierError, ValueError, OSError) as error:
        problem = " ".join(str(error).split())
    print(f"error: {problem}", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
