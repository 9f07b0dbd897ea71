"""`just setup`: the file with this machine's secrets."""

import os
import secrets
from pathlib import Path

from dotenv import dotenv_values

EXAMPLE = Path(".env.example")
TARGET = Path(".env")


def write_env() -> str:
    """Write `.env` from `.env.example` with a fresh secret key, readable by its owner only.

    Returns:
        What was done. A file that exists is left as it is, but for a missing secret key.
    """
    fresh = f"SECRET_KEY={secrets.token_urlsafe(48)}"
    if TARGET.exists():
        if dotenv_values(TARGET).get("SECRET_KEY"):
            return f"{TARGET} exists; left as it is"
        with TARGET.open("a", encoding="utf-8") as file:
            file.write(f"\n{fresh}\n")
        return f"added a fresh secret key to {TARGET}"
    lines = (
        EXAMPLE.read_text(encoding="utf-8").splitlines() if EXAMPLE.exists() else ["SECRET_KEY="]
    )
    text = "\n".join(fresh if line.startswith("SECRET_KEY=") else line for line in lines) + "\n"
    descriptor = os.open(TARGET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return f"wrote {TARGET} with a fresh secret key"
