"""The code blocks of documents: how a reader follows them.

- A `sh` block holds commands, one to a line.
- A `python` or `jinja` block whose first line names a file is a new file. If the file exists, the
  block is added at its end; in a file that a document made, its imports move to the top.
- A `diff` block names a file too. Its lines without a mark, or with `-`, must be in the file once.
"""

import re
import time
from pathlib import Path
from typing import NamedTuple

import httpx2
from conftest import ROOT

DOCS = ROOT / "docs"
ORDER = ("quickstart.md", "tutorial.md")
"""The pages that a reader follows first. The others need the service of these two."""

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A(?:# (?P<path>\S+\.py)|\{# (?P<template>\S+\.(?:html|txt)) #\})\n")
IMPORT = re.compile(r"^(?:from|import) .*\n", re.MULTILINE)


SECONDS = 60
"""The longest time in which an email arrives."""


def list_mails(base: str) -> list[tuple[str, str]]:
    """Return the address and the subject of each caught mail, as the viewer lists them."""
    page = httpx2.get(f"{base}/dev/mail").text
    return re.findall(r'<a href="(/dev/mail/[^"]+)">([^<]+)</a>', page)


def confirm_address(base: str, password: str) -> str:
    """Do what a reader does in a browser: open the email, click its link, enter the password.

    Args:
        base: The address of the web process.
        password: The password of the sign-up.

    Returns:
        The page that the reader then sees.
    """
    deadline = time.monotonic() + SECONDS
    while not (mails := list_mails(base)):
        assert time.monotonic() < deadline, "the email did not arrive"
        time.sleep(0.1)
    mail = httpx2.get(f"{base}{mails[0][0]}/html").text
    link = re.search(rf'href="{base}/confirm\?token=([^"]+)"', mail)
    assert link, mail
    form = {"token": link[1], "password": password}
    return httpx2.post(f"{base}/confirm", data=form).text


class Block(NamedTuple):
    """A code block.

    Attributes:
        page: The name of its page.
        language: The language, such as `sh`.
        path: The file that its first line names, or None.
        text: The text, without this line.
    """

    page: str
    language: str
    path: str | None
    text: str


def read_blocks(document: Path) -> list[Block]:
    """Return the code blocks of a document that have a language."""
    blocks = []
    for found in BLOCK.finditer(document.read_text()):
        text = found["text"]
        named = FILE.match(text)
        path = named and (named["path"] or named["template"])
        text = text[named.end() :] if named else text
        blocks.append(Block(document.name, found["language"], path, text))
    return blocks


def read_commands(text: str) -> list[str]:
    """Return the commands of a shell block, without their comments."""
    lines = [line.split("  #")[0].rstrip() for line in text.splitlines()]
    return [line for line in lines if line]


def commands(document: Path) -> list[str]:
    """Return the commands of a document's shell blocks, without their comments."""
    blocks = [block.text for block in read_blocks(document) if block.language == "sh"]
    return [command for text in blocks for command in read_commands(text)]


def find_pages() -> list[Path]:
    """Return the pages of the site that are in `docs/`, in the order of a reader."""
    pages = sorted(DOCS.rglob("*.md"))
    first = [DOCS / name for name in ORDER]
    return first + [page for page in pages if page not in first]


def add_python(path: Path, block: str, is_new: bool) -> None:
    """Write a block to a file, or add it to the file's end.

    Args:
        path: The file.
        block: The block.
        is_new: Whether a document made the file. The block's imports then move to its top.
    """
    text = f"{path.read_text()}\n{block}" if path.exists() else block
    if is_new:
        text = "".join(IMPORT.findall(text)) + IMPORT.sub("", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_snippets(document: str, target: Path) -> list[Path]:
    """Append each Python block to the file that its first line names, with the imports on top.

    Return the paths of the files in the service.
    """
    names = []
    for found in BLOCK.finditer(document):
        named = FILE.match(found["text"])
        if found["language"] == "python" and named:
            add_python(target / named["path"], found["text"][named.end() :], is_new=True)
            names.append(Path(named["path"]))
    return list(dict.fromkeys(names))


def apply_diff(path: Path, block: str) -> None:
    """Change a file as a diff block shows.

    Raises:
        AssertionError: The old lines are not in the file, or more than once.
    """
    lines = block.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if not line.startswith("+"))
    new = "".join(line[1:] for line in lines if not line.startswith("-"))
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has these lines {text.count(old)} times:\n{old}\n{text}"
    path.write_text(text.replace(old, new))


class Reader:
    """Writes the files of pages into a service.

    Args:
        service: The folder of the service.
    """

    def __init__(self, service: Path) -> None:
        self._service = service
        self.made: list[str] = []

    def write(self, block: Block) -> None:
        """Write the file of a block, or change it."""
        assert block.path
        path = self._service / block.path
        if block.language == "diff":
            apply_diff(path, block.text)
            return
        if not path.exists():
            self.made.append(block.path)
        if block.language == "jinja":
            path.write_text(block.text)
        else:
            add_python(path, block.text, is_new=block.path in self.made)
