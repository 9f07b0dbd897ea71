"""The file `.env`."""

from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Original, parse_stream

from core.errors import UserError

ROOT = Path(__file__).absolute().parent.parent.parent
"""The service's folder, which holds `app/`, `core/` and `.env`."""

ENV_FILE = ROOT / ".env"
"""The file with settings, which may be missing."""


def read_env_file() -> dict[str, str | None]:
    """Return the variables in `.env`. Without such a file, the result is empty.

    Raises:
        UserError: A line cannot be read, or the file is not UTF-8. python-dotenv itself would skip
            such a line with a warning.
    """
    if not ENV_FILE.exists():
        return {}
    text = _read_text()
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            line = _first_line(binding.original)
            raise UserError(f".env:{line} cannot be read; write NAME=value")
    return dotenv_values(stream=StringIO(text))


def _read_text() -> str:
    content = ENV_FILE.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f".env:{line} is not UTF-8; save the file as UTF-8") from None


def _first_line(original: Original) -> int:
    """Return the number of the first line that is not blank."""
    blank = original.string[: -len(original.string.lstrip())]
    return original.line + blank.count("\n")
