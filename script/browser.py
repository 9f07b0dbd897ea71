"""The browser of the tests and of the screenshots. It can reach only this machine."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

FIND = Path(__file__).resolve().parent / "chromium"
CANNOT = 3
"""The exit status of `script/chromium` if it cannot install a browser."""

HOST = "127.0.0.1"
ARGUMENTS = [f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {HOST}", "--disable-gpu"]


class NoBrowser(Exception):
    """No browser is installed, and this user cannot install one. The message says what to do."""


def find_browser() -> str:
    """Return the path of Chromium or Chrome.

    Raises:
        NoBrowser: No browser is installed, and this user cannot install one.
        RuntimeError: The installation failed.
    """
    done = subprocess.run([str(FIND)], capture_output=True, text=True)
    if done.returncode == CANNOT:
        raise NoBrowser(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Run a browser without a window until the block ends.

    Raises:
        NoBrowser: No browser is installed, and this user cannot install one.
    """
    path = find_browser()
    # The sandbox of Chromium refuses to run as root.
    arguments = ARGUMENTS if os.geteuid() else [*ARGUMENTS, "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
