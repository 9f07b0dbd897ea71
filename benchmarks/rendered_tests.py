"""The tests of a rendered service on real servers: its own, and those of the machinery. To reach: at most 20 s.

The ratio is against importing the service in a fresh interpreter in the same run.

    script/uv run python benchmarks/rendered_tests.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
COPIER = str(Path(sys.executable).parent / "copier")
UV = str(ROOT / "script" / "uv")


def seconds(folder: str, *command: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    started = perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as parent:
        for queue in ("true", "false"):
            folder = f"{parent}/queue-{queue}"
            answer = ["--data", f"enable_job_queue={queue}"]
            seconds(parent, COPIER, "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", *answer, str(ROOT), folder)
            seconds(folder, UV, "sync", "--quiet", "--locked")
            seconds(folder, UV, "run", "python", "-c", "import app.main")  # compiles what both then load
            imported = seconds(folder, UV, "run", "python", "-c", "import app.main")
            for recipe in ("test", "test-core"):
                tested = seconds(folder, UV, "run", "just", recipe, "-q")
                ratio = f"{tested / imported:.1f}x the time of importing the service"
                print(f"job queue {queue}: just {recipe} {tested:.1f} s (to reach: 20), {ratio}")


if __name__ == "__main__":
    main()
