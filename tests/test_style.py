"""Texts read as plain English: none of the phrases in `phrases.toml`.

To print the findings in some files or folders, or in all of the project:

    script/uv run python tests/test_style.py [PATH...]
"""

import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, git

MAX_FINDINGS = 20
"""Some phrases are right where they are used. A person has looked at each one that is left."""

PHRASES: list[dict[str, str]]
PHRASES = tomllib.loads((ROOT / "tests" / "phrases.toml").read_text())["phrase"]

GOOD = [
    "Return the directory where it is stored, or raise an error if there is no such folder.",
    "There are cases where it is better to wait. In this case there is no limit.",
    "If the value is None, the default is used. This is no longer needed, and is no more than 5.",
    "Return a tuple as long as it is consistent; otherwise return it unchanged.",
    "What does a worker do? It runs jobs.",
    "Besides, none of the tests failed, and any more tests would not help.",
    "Whether the file is in the archive. The user knows what to do about it, and how to do it.",
    "The class that owns the connection stands for the server. The job goes on to the next stage.",
    "Return whatever the function returned. A user who has an account can log in.",
    "raise ValueError: The name is not valid.",
    "Note: the server waits for the client. Have you read the documentation of the API?",
]
"""Sentences near the phrases that are plain English."""

EXEMPT = re.compile(
    r"tests/(snippets/|phrases\.toml|test_style\.py)"  # pasted documents; the phrases themselves
    r"|(.*/)?[^/]*uv\.lock[^/]*$|includes/|LICENSE|.*/breached-passwords\."
    r"|.*\.(gz|webp)$|.*/static/(licences/|oauth2-redirect\.js)"  # script/vendored.toml
)
RELEASED = re.compile(r"^## \[\d.*", re.MULTILINE | re.DOTALL)
LINE_COMMENT = re.compile(r"^[ \t]*#+", re.MULTILINE)
QUOTES = re.compile(r"\w*('''|\"\"\"|'|\")(.*)\1", re.DOTALL)
START = r"(?:^|\|)\s*"
"""A text starts at the start of a line, or after the bar that `python_texts` puts before it."""

TEXT_TOKENS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


class Finding(NamedTuple):
    path: str
    line: int
    phrase: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.phrase}  [{self.why}]"


def compile_phrase(find: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"(?<![\[\\])\^", lambda _: START, find).replace(" ", r"\s+"), re.M)


RULES = [(compile_phrase(phrase["find"]), phrase["why"]) for phrase in PHRASES]


def python_texts(source: str) -> str:
    """Return a module's comments and strings, each on its own line, with a bar for other code."""
    text = ""
    row = 1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            words = token.string.lstrip("#")
        elif token.type in TEXT_TOKENS:
            words = QUOTES.sub(r"\2", token.string)
        else:
            text += "|" if token.string.strip() else ""
            continue
        text += "\n" * (token.start[0] - row) + words
        row = token.end[0]
    return text


def read(path: Path) -> str:
    """Return the texts in a file; each keeps its line."""
    source = path.read_text()
    if path.suffix == ".py" or source.startswith("#!/usr/bin/env python"):
        return python_texts(source)
    if path.name.startswith("CHANGELOG"):
        source = RELEASED.sub("", source)
    return LINE_COMMENT.sub("", source)


def find_phrases(text: str, path: str = "") -> list[Finding]:
    """Return the phrases in a text. If two overlap, only the first is returned."""
    found = []
    end = 0
    matches = [(match.span(), why) for pattern, why in RULES for match in pattern.finditer(text)]
    for (start, stop), why in sorted(matches):
        if start >= end:
            shown = text[start : stop + 40].strip(" |\n").partition("|")[0]
            line = text.count("\n", 0, stop) + 1
            found.append(Finding(path, line, " ".join(shown.split()), why))
        end = max(end, stop)
    return found


def find_in_project(paths: list[str]) -> Iterator[Finding]:
    """Yield the phrases in the project's files, or in these files and folders of it."""
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    for name in git(ROOT, *listed).split("\0"):
        path = ROOT / name
        if path.is_file() and not EXEMPT.match(name):
            yield from find_phrases(read(path), name)


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase["avoid"])
def test_each_phrase_is_found_and_its_replacement_is_not(phrase: dict[str, str]) -> None:
    assert compile_phrase(phrase["find"]).search(phrase["avoid"])
    assert not find_phrases(phrase["write"])


@pytest.mark.parametrize("sentence", GOOD)
def test_plain_english_is_not_found(sentence: str) -> None:
    assert not find_phrases(sentence)


def test_texts_of_a_module_keep_their_lines() -> None:
    source = """
x = 1  # the job
# is over
y = f("a second job, which "
      "is none", "is", none)
"""
    found = find_phrases(python_texts(source))
    assert [(finding.line, finding.phrase) for finding in found] == [
        (3, "job is over"),
        (5, "is none"),
    ]


def test_texts_are_plain_english() -> None:
    found = [str(finding) for finding in find_in_project([])]
    assert len(found) <= MAX_FINDINGS, "\n".join(found)


if __name__ == "__main__":
    findings = list(find_in_project([str(Path(path).resolve()) for path in sys.argv[1:]]))
    print(*findings, f"{len(findings)} phrases; at most {MAX_FINDINGS} may be left", sep="\n")
