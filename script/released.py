"""The public names at the last release, and the changes since then."""

import re

NO_RELEASE = "none"
HEAD = "# The public names at the last release. Written by `script/api --release`. Release: "

Signatures = dict[str, list[str]]
"""The signatures of each public name: several if the function is overloaded."""


def find_newest_release(changelog: str) -> str:
    """Return the newest version that a changelog names, or `NO_RELEASE`.

    Args:
        changelog: The text of `CHANGELOG.md`.
    """
    found = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    return found[1] if found else NO_RELEASE


def write_released(signatures: Signatures, release: str) -> str:
    """Return the text of `tests/released_api.txt`: one line for each signature.

    Args:
        signatures: The signatures of every public name.
        release: The version that is released.
    """
    lines = [f"{path}: {each}" for path, several in signatures.items() for each in several]
    return "\n".join([HEAD + release, *sorted(lines)]) + "\n"


def read_released(text: str) -> tuple[str, Signatures]:
    """Return what `write_released` was given: the release and the signatures.

    Args:
        text: The text of `tests/released_api.txt`.
    """
    head, *lines = text.splitlines()
    signatures: Signatures = {}
    for line in lines:
        path, _, signature = line.partition(": ")
        signatures.setdefault(path, []).append(signature)
    return head.removeprefix(HEAD), signatures


def find_breaks(released: Signatures, current: Signatures, changelog: str) -> list[str]:
    """Return every released name that is gone or has changed, and that the changelog does not name.

    The changelog need not name the members of a class that is gone.

    Args:
        released: The signatures at the last release.
        current: The signatures now.
        changelog: The text of `CHANGELOG.md`, of which `Unreleased` counts.
    """
    named = _find_names(changelog)
    breaks = []
    for path, signatures in released.items():
        parent, _, name = path.rpartition(".")
        is_member = parent in released
        is_gone = path not in current
        if sorted(current.get(path, [])) == sorted(signatures):
            continue
        if is_gone and is_member and parent not in current:
            continue
        short = f"{parent.rpartition('.')[2]}.{name}" if is_member else name
        if named.isdisjoint({path, short}):
            what = "is gone" if is_gone else f"is now {current[path]}"
            breaks.append(f"{path} {what}. Name `{short}` in CHANGELOG.md, under Unreleased.")
    return breaks


def _find_names(changelog: str) -> set[str]:
    """Return the names in `Unreleased`, except in its section `Added`."""
    _, _, unreleased = changelog.partition("## [Unreleased]")
    unreleased, _, _ = unreleased.partition("\n## [")
    sections = re.split(r"^(?=### )", unreleased, flags=re.MULTILINE)
    changes = "".join(each for each in sections if not each.startswith("### Added"))
    return set(re.findall(r"`([\w.]+)[^`]*`", changes))
