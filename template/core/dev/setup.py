"""`just setup`: a `.env` file with this machine's secrets."""

import os
import secrets

from dotenv import dotenv_values

from core.config import ROOT

EXAMPLE = ROOT / ".env.example"
TARGET = ROOT / ".env"


def write_env() -> str:
    """Write `.env` from `.env.example` with a new secret key. Only its owner can read the file.

    If `.env` exists, it is left unchanged, except that a missing secret key is added.

    Returns:
        A message that says what was done.
    """
    secret = f"SECRET_KEY={secrets.token_urlsafe(48)}"
    if not TARGET.exists():
        _create(secret)
        return "wrote .env with a new secret key"
    if dotenv_values(TARGET).get("SECRET_KEY"):
        return ".env exists and was left unchanged"
    with TARGET.open("a", encoding="utf-8") as file:
        file.write(f"\n{secret}\n")
    return "added a new secret key to .env"


def _create(secret: str) -> None:
    example = "SECRET_KEY="
    if EXAMPLE.exists():
        example = EXAMPLE.read_text(encoding="utf-8")
    lines = example.splitlines()
    lines = [secret if line.startswith("SECRET_KEY=") else line for line in lines]
    descriptor = os.open(TARGET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
