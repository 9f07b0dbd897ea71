"""A browser opens the pages of `just dev`: the start page, caught mail, the API pages."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import duplicate
from playwright.sync_api import Browser, Page, expect
from served import PASSWORD, Served, add_shop, eventually, request
from watched import DESKTOP, PHONE, Scheme, Watched, watch

EMAIL = "ada@example.com"
NEW_PASSWORD = "a staple for a horse"
REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
"""ReDoc's script has this address. The page's policy stops the request."""


@pytest.fixture(scope="module")
def dev(service: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that `just dev` runs, with an administrator."""
    folder = tmp_path_factory.mktemp("dev")
    copied = duplicate(service, folder / "service")
    add_shop(copied)
    served = Served(copied, folder / "run")
    try:
        served.start_dev()
        served.run("admin", EMAIL, typed=f"{PASSWORD}\n")
        yield served
    finally:
        served.close()


def ask_for_reset(dev: Served) -> None:
    status, text = request(dev.port, "/password-reset", json.dumps({"email": EMAIL}))
    assert status == 202, text


def open_mail(watched: Watched) -> Page:
    """Open the newest mail, when a job has sent it."""
    page = watched.visit("/dev/mail")

    def has_arrived() -> bool:
        page.get_by_role("link", name="Refresh").click()
        return page.get_by_role("link", name="Reset your password").count() > 0

    eventually(has_arrived)
    page.get_by_role("link", name="Reset your password").first.click()
    return page


def test_the_start_page_leads_on(dev: Served, browser: Browser) -> None:
    with watch(browser, dev.base) as watched:
        watched.tolerated = REDOC_LOGO
        page = watched.visit("/")
        expect(page.get_by_text("answers", exact=True)).not_to_have_count(0)
        page.get_by_role("link", name="API").click()
        expect(page.get_by_role("heading", name=re.compile("^accounts"))).to_be_visible()
        watched.visit("/").get_by_role("link", name="Reference").click()
        expect(
            page.get_by_text("Authenticate").or_(page.get_by_text("/login")).first
        ).to_be_visible()
        watched.visit("/").get_by_role("link", name="Console").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        watched.visit("/").get_by_role("link", name="Caught mail").click()
        expect(page.get_by_role("heading", name="Caught mail")).to_be_visible()


def test_a_reset_from_the_mail_viewer(dev: Served, browser: Browser) -> None:
    ask_for_reset(dev)
    with watch(browser, dev.base) as watched:
        page = open_mail(watched)
        link = page.frame_locator("iframe").get_by_role("link", name="Choose a new password")
        with page.expect_popup() as opened:
            link.click()
        form = opened.value
        form.get_by_label("New password").fill(NEW_PASSWORD)
        form.get_by_role("button", name="Change password").click()
        expect(form.get_by_text("Your password has been changed.")).to_be_visible()
        watched.visit("/console")
        page.get_by_label("Email address").fill(EMAIL)
        page.get_by_label("Password").fill(NEW_PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(re.compile("/console$"))


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_everybody_can_use_the_pages(
    dev: Served, browser: Browser, width: int, scheme: Scheme
) -> None:
    ask_for_reset(dev)
    with watch(browser, dev.base, width=width, scheme=scheme) as watched:
        open_mail(watched)
        pages = ["/", "/dev/mail", watched.page.url.removeprefix(dev.base), "/console/login"]
        for path in [*pages, "/reset?token=x", "/confirm?token=x"]:
            watched.visit(path)
            watched.check_access()
            watched.check_width()
            watched.check_keyboard()
