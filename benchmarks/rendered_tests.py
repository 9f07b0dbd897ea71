"""The tests of a rendered service on real servers: its own, and those in `core/`. Goal: 20 s each.

The ratio compares them with an import of the service in a new interpreter, in the same run.

    script/uv run python benchmarks/rendered_tests.py
"""

import tempfile
from pathlib import Path

from rendering import ROOT, UV, copy_service, measure

IMPORT = ("python", "-c", "import app.main")


def measure_variant(folder: Path, queue: str) -> None:
    """Render and install a variant, measure its tests, and print the figures.

    Args:
        folder: The folder in which to render it.
        queue: The answer to `enable_job_queue`.
    """
    service = folder / f"queue-{queue}"
    copy_service(ROOT, service, "--vcs-ref=HEAD", "--data", f"enable_job_queue={queue}")
    measure(UV, "sync", "--quiet", "--locked", cwd=service)
    measure(UV, "run", *IMPORT, cwd=service)  # writes the bytecode
    imported = measure(UV, "run", *IMPORT, cwd=service)
    for recipe in ("test", "test-core"):
        tested = measure(UV, "run", "just", recipe, "-q", cwd=service)
        ratio = f"{tested / imported:.1f}x the time of an import of the service"
        print(f"job queue {queue}: just {recipe} {tested:.1f} s (goal: 20 s), {ratio}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for queue in ("true", "false"):
            measure_variant(Path(folder), queue)


if __name__ == "__main__":
    main()
