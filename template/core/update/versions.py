"""The version of a service, and the newest one of its template."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from core.update.git import UpdateError, failure_reason
from core.update.sources import explain_version


class Versions(NamedTuple):
    """The version that a service has, the newest one, and whether that one is newer."""

    current: str
    latest: str
    is_newer: bool


def find_versions(answers_file: Path) -> Versions:
    """Ask the template for its newest version.

    Args:
        answers_file: The path of the service's answers file.

    Raises:
        UpdateError: The template cannot be reached, or it has no versions.
    """
    command = [
        sys.executable,
        "-m",
        "copier",
        "check-update",
        "--output-format=json",
    ]
    command += ["--answers-file", str(answers_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        reason = explain_version(failure_reason(done.stderr), answers_file)
        raise UpdateError(reason) from None
    return Versions(
        found["current_version"],
        found["latest_version"],
        found["update_available"],
    )
