"""The documentation site builds without a warning, and loads nothing from another host."""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import lifecycle
import pytest
from conftest import ROOT, run, snapshot

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
LOADED_BY_STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)")
FOREIGN = re.compile(r"^(?:\w+:)?//")
HOSTS_OF_FILES = re.compile(r"//[\w.-]*(?:unpkg|jsdelivr|cdn|cloudflare|googleapis|gstatic)[\w.-]*")


class Page(HTMLParser):
    """The loaded files, the links and the ids of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in LOADED and values.get("rel") != "canonical" and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])
        if tag in ("a", "img") and (link := values.get("href") or values.get("src")):
            self.links.append(link)
        self.ids |= {values[name] for name in ("id", "name") if name in values}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Each process of the tests builds its own, because they run at once."""
    clone = snapshot(tmp_path_factory.mktemp("site") / "clone")
    done = run(str(clone / "script" / "docs"), cwd=clone)
    assert "The site is in .cache/docs/site." in done.stdout
    return clone / ".cache" / "docs" / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """The pages of the built site."""
    return {path: Page(path) for path in site.rglob("*.html")}


def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    """A link to a file, and a link to a part of a page, whose page has no such part."""
    clone = snapshot(tmp_path / "clone")
    page = clone / "docs" / "glossary.md"
    text = page.read_text()
    for link, problem in (
        ("gone.md", "docs/glossary.md links to gone.md, which does not exist."),
        ("leave.md#gone", "anchor does not exist"),
    ):
        page.write_text(f"{text}\n[broken]({link})\n")
        done = run(str(clone / "script" / "docs"), cwd=clone, check=False)
        assert done.returncode == 1
        assert problem in done.stdout + done.stderr


def test_every_page_is_built(site: Path, pages: dict[Path, Page]) -> None:
    built = {str(path.relative_to(site).with_suffix(".md")) for path in pages}
    in_docs = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert in_docs <= built
    assert {"reference/settings.md", "reference/api/core.tasks.md"} <= built


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    foreign = {url for page in pages.values() for url in page.loaded if FOREIGN.match(url)}
    for style in site.rglob("*.css"):
        urls = LOADED_BY_STYLES.findall(style.read_text())
        foreign |= {url for url in urls if FOREIGN.match(url)}
    for path in [*site.rglob("*.js"), *site.rglob("*.html"), *site.rglob("*.svg")]:
        foreign |= set(HOSTS_OF_FILES.findall(path.read_text()))
    assert foreign == set()


def test_links_between_pages_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """Zensical checks the files, but not all parts of pages."""
    broken = {(str(path.relative_to(site)), link) for path, link in find_broken(pages)}
    assert broken == set()


def find_broken(pages: dict[Path, Page]) -> Iterator[tuple[Path, str]]:
    for path, page in pages.items():
        for link in page.links:
            if path.name == "404.html" or re.match(r"\w+:|//", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (anchor and anchor not in pages[target].ids):
                yield path, link


def test_the_reference_has_what_the_source_has(site: Path) -> None:
    settings = (site / "reference" / "settings.html").read_text()
    assert "TASK_MAX_RETRIES" in settings
    assert "STORAGE_QUOTA" in settings
    commands = (site / "reference" / "commands.html").read_text()
    recipes = re.findall(
        r"^([\w-]+).*:$", (ROOT / "template/core/recipes.just").read_text(), re.MULTILINE
    )
    assert len(recipes) > 15
    assert all(f"just {recipe}<" in commands for recipe in recipes)
    metrics = (site / "reference" / "metrics.html").read_text()
    source = (ROOT / "template/core/tasks/metrics.py").read_text()
    names = re.findall(r"""(?:Counter|Gauge|Histogram)\(\s*"(\w+)\"""", source)
    assert len(names) > 8
    assert all(f"{name}<" in metrics for name in names)


def test_the_picture_of_a_job_is_from_the_code() -> None:
    """If this fails, run `script/picture life`."""
    picture = (ROOT / "docs" / "explanation" / "life-of-a-job.svg").read_text()
    assert lifecycle.find_mark(lifecycle.make_dot()) in picture


def test_a_status_that_the_picture_lacks_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new.py").write_text("def park():\n    return {'state': JobStatus.PARKED}\n")
    monkeypatch.setattr(lifecycle, "TASKS", tmp_path)
    with pytest.raises(lifecycle.LifecycleError, match=r"'new.py:park', 'parked'"):
        lifecycle.make_dot()


def test_the_picture_of_the_demo() -> None:
    """It shows a whole run, and nothing of the machine that recorded it."""
    picture = (ROOT / "docs" / "demo.svg").read_text()
    text = re.sub(r"<[^>]+>", "", picture)
    assert "everythingworked" in "".join(text.split())
    assert "/tmp/" not in picture
    assert sys.prefix not in picture
    assert "://fonts" not in picture


def test_each_picture_of_the_console_is_shown() -> None:
    """If pages changed, run `script/screenshots`."""
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    page = (ROOT / "docs" / "how-to" / "console.md").read_text()
    assert set(re.findall(r"\]\(\.\./images/([\w.-]+)\)", page)) == pictures
    assert len(pictures) == 6
    for name in pictures:
        picture = (ROOT / "docs" / "images" / name).read_bytes()
        assert picture[:4] == b"RIFF"
        assert picture[8:12] == b"WEBP"
        assert len(picture) < 120_000
    assert "docs/images/console.webp" in (ROOT / "README.md").read_text()
