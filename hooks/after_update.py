"""Merges `core/` after a plain `copier update`, so that it ends as `just update` does.

Copier runs this hook in the service's folder. Copier itself renders nothing (see `_exclude` in
copier.yml), because it merges file by file and loses edits without a message.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "template"))

import yaml
from copier.errors import CopierError

from core.update import EXIT_FAILED
from core.update.answers import list_answer_changes, read_answers
from core.update.git import UpdateError
from core.update.render import render, render_current
from core.update.service import Service
from core.update.sources import explain


def main(answers_file: Path, new_answers: str) -> int:
    """Merge `core/`. Copier's command fails unless the exit status is 0.

    Args:
        answers_file: The path of the answers file, which names the service's version.
        new_answers: The answers for the new version, as JSON.

    Returns:
        The exit status: 0, 2 if the update failed, or 3 if there are conflicts.
    """
    try:
        service = Service(answers_file)
        service.check_repository()
        answers = answers_file.read_text(encoding="utf-8")
        # JSON writes an emoji as two halves, which YAML would read as two characters.
        new_text = yaml.safe_dump(json.loads(new_answers), allow_unicode=True)
        with TemporaryDirectory(prefix="update.") as folder:
            old = render_current(answers, answers_file, Path(folder, "old"))
            new = render(new_text, answers_file, Path(folder, "new"))
            before, after = read_answers(answers_file), read_answers(new / answers_file)
            for line in list_answer_changes(before, after):
                print(line, flush=True)
            status = service.merge(old, new)
        if not status:
            print(f"Updated from {before['_commit']} to {after['_commit']}. Next, run `uv lock`.")
        return status
    except KeyboardInterrupt:
        problem = "stopped, nothing was changed"
    except (UpdateError, CopierError, ValueError, OSError) as error:
        problem = explain(error)
    print(f"error: {problem}", file=sys.stderr)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
