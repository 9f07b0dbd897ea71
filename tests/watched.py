"""A page in a browser, and a record of its errors and of its requests to other hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
)

DESKTOP = 1280
PHONE = 375
HEIGHT = 800
SECONDS = 15
Scheme = Literal["light", "dark"]
expect.set_options(timeout=SECONDS * 1000)  # a page refreshes itself after five seconds

AXE_OPTIONS = {"resultTypes": ["violations"]}
"""All rules of axe-core, best practices included."""

FIND_WIDE = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = document.documentElement.scrollWidth > width;
    const is_wide = each => scrolls && each.getBoundingClientRect().right > width + 1;
    const scrolls_itself = each => each
        && (getComputedStyle(each).overflowX !== 'visible' || scrolls_itself(each.parentElement));
    const is_cut = each => each.scrollWidth > each.clientWidth + 1 && !scrolls_itself(each);
    return [...document.querySelectorAll('main *')]
        .filter(each => each.clientWidth && (is_wide(each) || is_cut(each)))
        .map(each => each.outerHTML.slice(0, 120));
}"""
"""Lists elements that make the page scroll, or that reach out of their frame."""

CONTROLS = "a[href], button, input, select, textarea, summary"
LIST_CONTROLS = """controls => [...document.querySelectorAll(controls)]
    .filter(each => !each.disabled && each.type !== 'hidden' && each.checkVisibility())
    .map((each, number) => {
        each.dataset.number = number;
        return each.outerHTML.slice(0, 120);
    })"""
READ_FOCUS = """() => {
    const focused = document.activeElement;
    if (!focused || focused === document.body) return null;
    const shown = getComputedStyle(focused);
    const has_outline = shown.outlineStyle !== 'none' && parseFloat(shown.outlineWidth) > 0;
    const is_visible = has_outline || shown.boxShadow !== 'none';
    return {number: focused.dataset.number, is_visible};
}"""


def read_axe() -> str:
    """Return the source of axe-core."""
    spec = find_spec("axe_playwright_python")
    assert spec
    assert spec.submodule_search_locations
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text()


@dataclass
class Watched:
    """A page, and the errors in it.

    Attributes:
        page: The page.
        base: The address of the service. The page may request nothing else.
        problems: The errors so far, one line each.
        expected: The statuses of errors that the test causes on purpose.
        requested: The addresses that the page has requested.
        tolerated: A text that marks a problem that is known.
    """

    page: Page
    base: str
    problems: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)
    requested: list[str] = field(default_factory=list)
    tolerated: str | None = None

    def __post_init__(self) -> None:
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._note_request)
        self.page.on("requestfailed", self._note_failure)
        self.page.on("response", self._note_response)

    def _note_message(self, message: ConsoleMessage) -> None:
        # The browser also logs each answer with an error, which `_note_response` notes.
        is_answer = message.text.startswith("Failed to load resource: the server responded")
        if message.type in ("error", "warning") and not is_answer:
            self.problems.append(f"console: {message.text}")

    def _note_request(self, request: Request) -> None:
        self.requested.append(request.url)
        own = (self.base, f"blob:{self.base}")
        if not request.url.startswith(own):
            self.problems.append(f"another host: {request.url}")

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a new page ends the requests of the old one
            self.problems.append(f"failed: {request.url} {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.problems.append(f"{response.status}: {response.request.method} {response.url}")

    def visit(self, path: str) -> Page:
        """Open a page of the service."""
        self.page.goto(self.base + path)
        return self.page

    def check(self) -> None:
        """Check that nothing went wrong so far."""
        known = self.tolerated
        problems = [each for each in self.problems if known is None or known not in each]
        assert not problems, f"{self.page.url}: {problems}"

    def check_access(self) -> None:
        """Check with all rules of axe-core that everybody can use the page."""
        self.page.evaluate(f"() => {{ {read_axe()} }}")
        found: dict[str, Any] = self.page.evaluate("options => axe.run(options)", AXE_OPTIONS)
        violations = [
            f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]
        assert not violations, f"{self.page.url}: {violations}"

    def check_width(self) -> None:
        """Check that the page needs no horizontal scrolling, and that nothing leaves its frame."""
        wide = self.page.evaluate(FIND_WIDE)
        assert not wide, f"{self.page.url}: {wide}"

    def check_keyboard(self) -> None:
        """Check that Tab reaches each control, and that the focused control is marked."""
        controls: list[str] = self.page.evaluate(LIST_CONTROLS, CONTROLS)
        reached: set[int] = set()
        self.page.evaluate("() => document.activeElement?.blur()")
        for _ in range(2 * len(controls) + 2):
            self.page.keyboard.press("Tab")
            focus = self.page.evaluate(READ_FOCUS)
            if focus and focus["number"] is not None:
                assert focus["is_visible"], controls[int(focus["number"])]
                reached.add(int(focus["number"]))
            if len(reached) == len(controls):
                return
        missed = [html for number, html in enumerate(controls) if number not in reached]
        assert not missed, f"{self.page.url}: {missed}"


@contextmanager
def watch(
    browser: Browser,
    base: str,
    cookies: Any = None,
    width: int = DESKTOP,
    scheme: Scheme = "light",
    scripts: bool = True,
) -> Iterator[Watched]:
    """Open a page, and check when the block ends that nothing went wrong.

    Args:
        browser: The browser.
        base: The address of the service.
        cookies: The cookies of a user who has logged in.
        width: The width of the window, in pixels.
        scheme: The colour scheme that the user prefers.
        scripts: Whether JavaScript is on.
    """
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme=scheme,
        java_script_enabled=scripts,
        storage_state=cookies,
    )
    context.set_default_timeout(SECONDS * 1000)
    with close_later(context):
        watched = Watched(context.new_page(), base)
        yield watched
        watched.check()


@contextmanager
def close_later(context: BrowserContext) -> Iterator[None]:
    """Close a context when the block ends."""
    try:
        yield
    finally:
        context.close()
