"""The snippets of the reference documents, and how a service gets them.

The files in `tests/snippets/service/` contain lines such as `# paste: app-tasks.md, Retries`. The
block under this heading replaces the line, unchanged except for the import lines in `IMPORTS`.

To print everything in the service that is not from the documents:

    script/uv run python tests/reference.py
"""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

SNIPPETS = Path(__file__).resolve().parent / "snippets"
SERVICE = SNIPPETS / "service"
BACKEND = "backend_"
"""The name of a file starts with this if the rest is the name of an engine that the file needs."""
PAGE = "core/docs/coming-from.md"
"""The page of a service that explains what it does differently."""

HEADING_OR_BLOCK = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PASTE = re.compile(
    r"^(?P<indent> *)# paste: (?P<document>\S+\.md), (?P<heading>.+)\n", re.MULTILINE
)

IMPORTS = {
    "stufio.modules.events.services.background_tasks": "core.background",
    "stufio.modules.events.utils.context": "core.context",
    "loggers": "core.logging",
    "backgroundtask.taskplugins": "app.tasks.taskplugins",
    "manager": "app.pasted.manager",
    "manager.task.taskmanager": "app.pasted.manager",
    "manager.schemas.taskManager": "app.pasted.manager",
    "pacificpy": "app.pasted.pacificpy",
    "pacificpy.background.backend": "app.pasted.pacificpy",
    "pacificpy.background.local": "app.pasted.pacificpy",
    "pacificpy.background.decorators": "app.pasted.pacificpy",
    "pacificpy.background.monitor": "app.pasted.pacificpy",
}
"""Modules of other systems, and the modules that are imported instead."""

NOT_HERE = {
    ("fastapi-background-tasks.md", "Setup Instructions"): "Commands",
    ("fastapi-background-tasks.md", "Watch Console Output"): "Commands",
    ("fastapi-background-tasks.md", "Test Sequence"): "Commands",
    ("scheduled-tasks.md", "Creating a New Task"): "SQLAlchemy sessions",
    ("scheduled-tasks.md", "Task with Dependencies"): "A cache service",
    ("scheduled-tasks.md", "Conditional Task Execution"): "`config.json`",
    ("scheduled-tasks.md", "Configuration"): "`config.json`",
    ("scheduled-tasks.md", "3. Clean Up Resources"): "SQLAlchemy sessions",
    ("task-backends.md", "1. Worker Scaling"): "Celery, arq and streaq",
    ("task-backends.md", "2. Queue Management"): "The length of the queue",
}
"""Blocks that do not run here, and the section of `PAGE` that says why and what to do instead."""


class Place(NamedTuple):
    """The place of a block: no two blocks of a document have the same heading."""

    document: str
    heading: str


class Block(NamedTuple):
    """A block of code in a document."""

    language: str
    text: str


def read_blocks() -> dict[Place, Block]:
    """Return the blocks of all documents, except drawings, which have no language."""
    blocks = {}
    for path in sorted((SNIPPETS / "reference").glob("*.md")):
        heading = ""
        for match in HEADING_OR_BLOCK.finditer(path.read_text()):
            heading = match["heading"] or heading
            if match["language"]:
                place = Place(path.name, heading)
                assert place not in blocks
                blocks[place] = Block(match["language"], match["text"])
    return blocks


def service_files() -> Iterator[tuple[Path, str]]:
    """Yield the files that a service gets, with their paths in it, before anything is pasted."""
    for path in sorted(SERVICE.rglob("*.py")):
        yield path.relative_to(SERVICE), path.read_text()


def replace_imports(text: str) -> str:
    """Return a block in which modules of other systems are replaced."""
    return re.sub(
        r"^( *from )(\S+)(?= import )",
        lambda match: match[1] + IMPORTS.get(match[2], match[2]),
        text,
        flags=re.MULTILINE,
    )


def paste(text: str, blocks: dict[Place, Block]) -> str:
    """Return the text of a file with its blocks."""
    return PASTE.sub(
        lambda match: indent(
            replace_imports(blocks[Place(match["document"], match["heading"])].text),
            match["indent"],
        ),
        text,
    )


def write_service(service: Path, *engines: str) -> None:
    """Write the files, with their blocks, into a service.

    Args:
        service: The folder of the service.
        *engines: Its engines. The service gets no file that needs another one.
    """
    blocks = read_blocks()
    for path, text in service_files():
        needed = path.stem.removeprefix(BACKEND)
        if path.stem.startswith(BACKEND) and needed not in engines:
            continue
        target = service / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(paste(text, blocks))


def pasted_places() -> list[Place]:
    """Return the places of the blocks that are pasted."""
    return [
        Place(match["document"], match["heading"])
        for _, text in service_files()
        for match in PASTE.finditer(text)
    ]


def describe_additions() -> str:
    """Return everything in the service, apart from its tests, that is not from the documents."""
    lines = [f"from {old} -> from {new}" for old, new in IMPORTS.items()]
    for path, text in service_files():
        if path.parts[0] == "app" and text:
            lines += [f"\n--- {path}", text]
    return "\n".join(lines)


if __name__ == "__main__":
    print(describe_additions())
