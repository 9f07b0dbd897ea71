"""Build the documentation site: collect its pages, point their links to each other, run Zensical.

The pages are in `docs/`, and in the template, where each service has its own copy. Links between
them are relative to the files, so they also work in an editor and on GitHub.
"""

import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs_reference import describe_commands, describe_metrics, describe_settings, split_api
from jinja2 import Environment

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".cache" / "docs"
PAGES = BUILD / "pages"
SITE = BUILD / "site"

CORE_DOCS = "template/core/docs"
API = "template/core/API.md"
API_INDEX = "reference/api/index.md"

Tree = dict[str, "str | Tree"]
"""The navigation: titles, with the files of the pages or with further titles."""

NAVIGATION: Tree = {
    "Home": "docs/index.md",
    "Start": {
        "Quickstart": "docs/quickstart.md",
        "Tutorial": "docs/tutorial.md",
        "From FastAPI's BackgroundTasks": "docs/from-background-tasks.md",
        "From Celery": "docs/from-celery.md",
        "From arq": "docs/from-arq.md",
        "From another system": f"{CORE_DOCS}/coming-from.md",
        "Groundwork and others": "docs/comparison.md",
    },
    "How to": {
        "Copy a service": "docs/how-to/copy.md",
        "Choose an engine": "docs/engines.md",
        "Add it to a project": "docs/adopt.md",
        "Emails": "docs/how-to/emails.md",
        "Reports": "docs/how-to/reports.md",
        "Uploads": "docs/how-to/uploads.md",
        "Webhooks": "docs/how-to/webhooks.md",
        "Schedules": "docs/how-to/schedules.md",
        "Chains": "docs/how-to/chains.md",
        "Retries and dead letters": "docs/how-to/failures.md",
        "The console": "docs/how-to/console.md",
        "Jobs in the terminal": "docs/how-to/jobs.md",
        "Report failures": "docs/how-to/error-reports.md",
        "Limits": "docs/how-to/limits.md",
        "Transactions": "docs/how-to/transactions.md",
        "Files": "docs/how-to/files.md",
        "Settings": "docs/how-to/settings.md",
        "Tests": "docs/how-to/testing.md",
        "Migrations": f"{CORE_DOCS}/migrations.md",
        "Names that you and core use": "docs/how-to/names.md",
        "Deploy": "docs/deploy.md",
        "Traces": "docs/traces.md",
        "Alerts and dashboard": f"{CORE_DOCS}/alerts.md",
        "The queue's server": f"{CORE_DOCS}/queue-server.md",
        "Update a service": "docs/how-to/update.md",
        "Leave Groundwork": "docs/leave.md",
        "Troubleshooting": f"{CORE_DOCS}/troubleshooting.md",
    },
    "Reference": {
        "Background jobs": "template/app/tasks/README.md",
        "Options": f"{CORE_DOCS}/options.md",
        "Settings": "template/core/config/settings.py",
        "Commands": "template/core/recipes.just",
        "Metrics": "template/core/tasks/metrics.py",
        "README of a service": "template/README.md.jinja",
        "Working on a service": "template/CONTRIBUTING.md",
        "Security of a service": "template/core/SECURITY.md",
        "Public names": API,
        "Glossary": "docs/glossary.md",
    },
    "Explanation": {
        "The life of a job": "docs/explanation/life-of-a-job.md",
        "Guarantees under faults": "docs/guarantees.md",
        "The limits of one queue": "docs/scale.md",
        "Design": {
            "Overview": "docs/design/index.md",
            "Who owns what": "docs/design/ownership.md",
            "How an update works": "docs/design/updates.md",
            "From enqueue to an outcome": "docs/design/queue.md",
            "Jobs that other systems carry": "docs/design/brokers.md",
            "Features of jobs": "docs/design/features.md",
            "Workers and servers": "docs/design/workers.md",
            "In the web process": "docs/design/web.md",
            "The console": "docs/design/console.md",
            "Accounts and limits": "docs/design/accounts.md",
            "Webhooks, uploads and mail": "docs/design/examples.md",
            "In the terminal": "docs/design/terminal.md",
            "Figures": "docs/design/figures.md",
            "Known limits": "docs/design/known-limits.md",
        },
    },
    "Project": {
        "Changes": "CHANGELOG.md",
        "Contributing": "CONTRIBUTING.md",
        "Security": "SECURITY.md",
    },
}

GENERATED = {
    "template/core/config/settings.py": describe_settings,
    "template/core/recipes.just": describe_commands,
    "template/core/tasks/metrics.py": describe_metrics,
}
"""Pages that are made from the source of `core/`."""

PLACES = {
    f"{CORE_DOCS}/alerts.md": "how-to/alerts.md",
    f"{CORE_DOCS}/coming-from.md": "coming-from.md",
    f"{CORE_DOCS}/migrations.md": "how-to/migrations.md",
    f"{CORE_DOCS}/options.md": "reference/options.md",
    f"{CORE_DOCS}/queue-server.md": "how-to/queue-server.md",
    f"{CORE_DOCS}/troubleshooting.md": "troubleshooting.md",
    "template/app/tasks/README.md": "reference/jobs.md",
    "template/README.md.jinja": "reference/service.md",
    "template/CONTRIBUTING.md": "reference/working-on-a-service.md",
    "template/core/SECURITY.md": "reference/service-security.md",
    "template/core/config/settings.py": "reference/settings.md",
    "template/core/recipes.just": "reference/commands.md",
    "template/core/tasks/metrics.py": "reference/metrics.md",
    API: API_INDEX,
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""The places of pages in the site, by their files. A page in `docs/` keeps its place."""

ALIASES = {
    "README.md": "docs/index.md",
    "template/README.md": "template/README.md.jinja",
    "template/core/CHANGELOG.md": "CHANGELOG.md",
}
"""Files that links name, and the files of the pages that show them."""

ANSWERS = {
    "project_name": "The README of a service",
    "description": "Each service has this README, with its own name and description.",
    "enable_job_queue": True,
    "engine": "redis",
}

PICTURES = (".svg", ".webp")
LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
LIBRARY_HOST = re.compile(r"(?:https:)?//(?:unpkg\.com|cdn\.jsdelivr\.net)/")
FENCE = re.compile(r"^ *```")
NESTED = re.compile(r"^(?:  )+(?=\S)")
CONFIG = """\
[project]
site_name = "Groundwork"
site_description = "A template for Python web services with background jobs."
docs_dir = "pages"
site_dir = "site"
extra_css = ["site.css"]
use_directory_urls = false
nav = {nav}

[project.theme]
font = false
features = ["navigation.sections", "search.highlight", "content.code.copy"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
"""

STYLE = """\
td:first-child code { white-space: nowrap; }
img[src$="life-of-a-job.svg"] { background: white; }
"""


def find_place(source: str) -> str:
    """Return the place of a page in the site.

    Args:
        source: The page's file.
    """
    return PLACES.get(source) or source.removeprefix("docs/")


def read_navigation(tree: Tree, places: dict[str, str]) -> list[dict[str, object]]:
    """Return the navigation for Zensical, and add the place of each page.

    Args:
        tree: The titles.
        places: Gets the place of each page, by its file.
    """
    nav: list[dict[str, object]] = []
    for title, entry in tree.items():
        if not isinstance(entry, str):
            nav.append({title: read_navigation(entry, places)})
        else:
            places[entry] = find_place(entry)
            nav.append({title: places[entry]})
    return nav


def write_toml(nav: object) -> str:
    """Return a part of the navigation in TOML."""
    if isinstance(nav, list):
        return f"[{', '.join(write_toml(item) for item in nav)}]"
    if isinstance(nav, dict):
        ((title, value),) = nav.items()
        return f"{{{_quote(title)} = {write_toml(value)}}}"
    return _quote(str(nav))


def _quote(text: str) -> str:
    return f'"{text}"'


def read_page(source: str) -> str:
    """Return the text of a page, as its file has it.

    Args:
        source: The page's file.
    """
    text = (ROOT / source).read_text()
    if source in GENERATED:
        return GENERATED[source](ROOT)
    if source.endswith(".jinja"):
        jinja = Environment(keep_trailing_newline=True)  # noqa: S701  # nosec B701  # Markdown
        return jinja.from_string(text).render(ANSWERS)
    return text


def move_links(text: str, source: str, place: str, places: dict[str, str]) -> str:
    """Point the links of a page to the other pages of the site.

    A link to a file that the site does not have becomes plain text.

    Args:
        text: The page.
        source: The page's file.
        place: The page's place in the site.
        places: The place of each page, by its file.
    """

    def move(link: re.Match[str]) -> str:
        target = link["target"]
        if "://" in target or target.startswith(("#", "mailto:")):
            return link[0]
        name, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        path = ALIASES.get(path, path)
        if path in places:
            moved = posixpath.relpath(places[path], posixpath.dirname(place) or ".")
            return f"[{link['text']}]({moved}{'#' if anchor else ''}{anchor})"
        if not (ROOT / path).exists():
            sys.exit(f"script/docs: {source} links to {target}, which does not exist.")
        if path.endswith(PICTURES):
            return link[0]
        return link["text"]

    return LINK.sub(move, text)


def indent_lists(text: str) -> str:
    """Indent what belongs to an item of a list by four spaces, which Python-Markdown needs."""
    lines = []
    is_code = False
    for line in text.splitlines(keepends=True):
        if FENCE.match(line):
            is_code = not is_code
        nested = NESTED.match(line)
        if nested and not is_code and len(nested[0]) == 2:
            line = f"  {line}"
        lines.append(line)
    return "".join(lines)


def write_page(source: str, place: str, places: dict[str, str]) -> None:
    """Write a page for Zensical.

    Args:
        source: The page's file.
        place: The page's place in the site.
        places: The place of each page, by its file.
    """
    text = indent_lists(move_links(read_page(source), source, place, places))
    parts = split_api(text) if source == API else {"index.md": text}
    target = PAGES / place
    target.parent.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        path = target.with_name(name) if source == API else target
        path.write_text(part)


def collect() -> None:
    """Write all pages, their pictures and the configuration."""
    shutil.rmtree(BUILD, ignore_errors=True)
    places: dict[str, str] = {}
    nav = read_navigation(NAVIGATION, places)
    missing = {f"docs/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").rglob("*.md")}
    if missing - places.keys():
        sys.exit(f"script/docs_site.py: the navigation lacks {sorted(missing - places.keys())}")
    for source, place in places.items():
        write_page(source, place, places)
    for picture in (ROOT / "docs").rglob("*"):
        if picture.suffix in PICTURES:
            target = PAGES / picture.relative_to(ROOT / "docs")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, target)
    (PAGES / "site.css").write_text(STYLE)
    (BUILD / "zensical.toml").write_text(CONFIG.format(nav=write_toml(nav)))


def remove_hosts() -> None:
    """Remove the hosts of libraries that Zensical's script loads for certain elements.

    Our pages have no such element: no diagram, no picture to enlarge, no code to run.
    """
    for path in (path for pattern in ("*.js", "*.map") for path in SITE.rglob(pattern)):
        path.write_text(LIBRARY_HOST.sub("/", path.read_text()))


def main() -> None:
    collect()
    command = "serve" if "--serve" in sys.argv[1:] else "build"
    options = [] if command == "serve" else ["--strict", "--clean"]
    zensical = [sys.executable, "-m", "zensical", command, *options]
    status = subprocess.run(zensical, cwd=BUILD, check=False).returncode
    if command == "build" and not status:
        remove_hosts()
        print(f"The site is in {SITE.relative_to(ROOT)}.")
    sys.exit(status)


if __name__ == "__main__":
    main()
