"""`just setup`: a `.env` file with this machine's secrets."""

import secrets
import subprocess

from core.config.env_file import ENV_FILE, ROOT, read_env_file
from core.errors import UserError

EXAMPLE = ROOT / ".env.example"
NOT_IGNORED = 1
"""The exit status of `git check-ignore`. Outside a repository it is 128."""


def write_env() -> str:
    """Write `.env` from `.env.example` with a new secret key. Only its owner can read the file.

    If `.env` exists, it is left unchanged, except that a missing secret key is added.

    Returns:
        A message that says what was done.

    Raises:
        UserError: A line of `.env` cannot be read, or git would commit the file.
    """
    secret = f"SECRET_KEY={secrets.token_urlsafe(48)}"
    if read_env_file().get("SECRET_KEY"):
        return ".env exists and was left unchanged"
    _check_ignored()
    if not ENV_FILE.exists():
        _create(secret)
        return "wrote .env with a new secret key"
    with ENV_FILE.open("a", encoding="utf-8") as file:
        file.write(f"\n{secret}\n")
    return "added a new secret key to .env"


def _check_ignored() -> None:
    command = ["git", "check-ignore", "--quiet", ENV_FILE.name]
    try:
        status = subprocess.run(command, cwd=ROOT, capture_output=True).returncode  # nosec B607
    except OSError:  # git is not installed
        return
    if status == NOT_IGNORED:
        remedy = "Add the lines `.env` and `.dev/` to .gitignore, then run the command again."
        hint = "If git already tracks the file, run `git rm --cached .env` too."
        raise UserError(f"git would commit .env, which contains secrets. {remedy} {hint}")


def _create(secret: str) -> None:
    lines = ["SECRET_KEY="]
    if EXAMPLE.exists():
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    lines = [secret if line.startswith("SECRET_KEY=") else line for line in lines]
    ENV_FILE.touch(mode=0o600, exist_ok=False)
    ENV_FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
