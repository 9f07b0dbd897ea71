"""Size of a service's image, and the time from its start until it is healthy.

The size is compared with an image of one stage, and the time with the same process outside of a
container. Both are measured in the same run. Needs root, and installs podman from Debian.

    script/uv run python benchmarks/image.py
"""

import subprocess
import sys

from rendering import ROOT, run_driver

SCRIPT = str(ROOT / "script" / "image")
TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    subprocess.run([SCRIPT, "prepare"], check=True)
    sys.exit(run_driver("image", TASKS, SCRIPT))
