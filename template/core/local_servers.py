"""The servers that `just dev` runs for this project.

While `just dev` runs a server, it holds the lock `.dev/NAME.lock`. The file `.dev/NAME.env` holds
the setting with the server's URL.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from dotenv import dotenv_values

from core.config import ROOT
from core.config.env_file import read_env_file
from core.errors import UserError
from core.tasks.engines import DEFAULT

FOLDER = ROOT / ".dev"
"""The folder for the servers' data, logs, locks and URLs."""
MAILDIR = "maildir"
"""The folder in the SMTP server's data folder that holds the emails."""
CAUGHT_MAIL = FOLDER / "mail" / MAILDIR
"""The folder of the emails that `just dev` caught."""


def read_variables() -> dict[str, str | None]:
    """Return the variables in `.env` and in the environment. The environment takes precedence.

    Raises:
        UserError: A line of `.env` cannot be read.
    """
    return {**read_env_file(), **os.environ}


@contextmanager
def claim(name: str) -> Iterator[bool]:
    """Try to hold a server's lock for the length of a block.

    Args:
        name: The server's name.

    Yields:
        Whether this process holds the lock. If not, another process runs the server.
    """
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def use_running_servers() -> None:
    """Set the URLs of the running servers in this process's environment.

    A setting that has a value keeps it. In production nothing is set or checked.

    Raises:
        UserError: A server is neither running nor named by its setting.
    """
    variables = read_variables()
    if variables.get("ENVIRONMENT") == "production":
        return
    for file in FOLDER.glob("*.env"):
        with claim(file.stem) as is_free:
            if is_free:
                continue
            for setting, url in dotenv_values(file).items():
                if url and not variables.get(setting):
                    variables[setting] = os.environ[setting] = url
    needed = {"MONGODB_URL": "MongoDB"}
    has_queue = (variables.get("TASK_ENGINE") or DEFAULT) != "local"
    if has_queue and not variables.get("BROKER_URL"):
        needed["REDIS_URL"] = "The job queue's server"
    for setting, name in needed.items():
        if not variables.get(setting):
            raise UserError(f"{name} is not running here. Start `just dev`, or set {setting}.")
