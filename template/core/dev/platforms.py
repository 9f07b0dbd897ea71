"""The platforms that have no wheels of the development servers.

`just setup` runs this module if it could not install the packages. Standard library only.
"""

import platform
import sys

MACHINES = ("x86_64", "amd64", "aarch64", "arm64")
HELP = (
    'core/docs/troubleshooting.md, "Platforms without wheels", explains how to leave them out'
    " and use your own servers, with MONGODB_URL and REDIS_URL"
)


def explain_missing_wheels(system: str, machine: str, libc: str) -> str | None:
    """Return one line if the servers have no wheels for a platform.

    Args:
        system: The value of `sys.platform`.
        machine: The value of `platform.machine()`.
        libc: The name of the C library, from `platform.libc_ver()`. It is `glibc` or, for musl,
            empty.
    """
    if machine.lower() not in MACHINES:
        reason = f"{machine} machines"
    elif system == "linux" and libc != "glibc":
        reason = "Linux with musl, such as Alpine"
    elif system not in ("linux", "darwin"):
        reason = system
    else:
        return None
    return f"MongoDB and Valkey have no wheels for {reason}. {HELP}."


def explain_this_platform() -> str | None:
    """Return one line if the servers have no wheels for this platform."""
    libc, _ = platform.libc_ver()
    return explain_missing_wheels(sys.platform, platform.machine(), libc)


if __name__ == "__main__":
    if line := explain_this_platform():
        print(f"error: {line}", file=sys.stderr)
