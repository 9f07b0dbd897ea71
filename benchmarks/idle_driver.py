"""Measures idle workers. `idle.py` runs this in the service that it renders."""

import os
import secrets
import sys
import tempfile
from pathlib import Path

from driver_idle import measure
from driver_servers import run_servers

from core.dev.servers import MONGODB, VALKEY

SECONDS = 60.0


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_FORMAT"] = "json"
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        log = Path(folder) / "worker.log"
        measure(1.0, log)  # compiles the modules, as the build of the image does
        memory, share = measure(seconds, log)
    print(f"{memory:.0f} MB, {share:.2%} of a core (goal: 100 MB, 0.5 %)")


if __name__ == "__main__":
    main()
