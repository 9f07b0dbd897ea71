"""`just setup`: a `.env` file with this machine's secrets."""

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
    lines = ["SECRET_KEY="]
    if EXAMPLE.exists():
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    lines = [secret if line.startswith("SECRET_KEY=") else line for line in lines]
    TARGET.touch(mode=0o600, exist_ok=False)
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
