"""A browser drives the console on real jobs, in both variants of a service."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import duplicate
from playwright.sync_api import Browser, Locator, Page, expect
from served import PASSWORD, Served, add_shop, eventually, request, serve
from test_rendered import is_queue_on
from watched import DESKTOP, PHONE, Scheme, Watched, watch

ROLES = {"admin": "ada@example.com", "viewer": "vera@example.com"}
CARD = "4111 1111 1111 1111"
REFRESH_SECONDS = 5
EMPTY = {
    "/console": "A job that fails for good appears here",
    "/console/failures": "No dead letters.",
    "/console/jobs": "No running jobs.",
    "/console/workers": "No worker is alive.",
    "/console/tasks": "read_orders",
}

Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def has_queue(service: Path) -> bool:
    return is_queue_on(service)


@pytest.fixture(scope="module")
def served(
    service: Path, has_queue: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service with a web process, a worker, an administrator and a viewer."""
    folder = tmp_path_factory.mktemp("console")
    copied = duplicate(service, folder / "service")
    add_shop(copied)
    with serve(copied, folder / "run") as served:
        served.start_web()
        if has_queue:
            served.start_worker()
        served.run("admin", ROLES["admin"], typed=f"{PASSWORD}\n")
        served.run("admin", ROLES["viewer"], "--role", "viewer", typed=f"{PASSWORD}\n")
        yield served


@pytest.fixture(scope="module")
def cookies(served: Served, browser: Browser) -> dict[str, Any]:
    """The cookies of each role."""
    found = {}
    for role in ROLES:
        with watch(browser, served.base) as watched:
            log_in(watched, role)
            found[role] = watched.page.context.storage_state()
    return found


@pytest.fixture
def visit(served: Served, browser: Browser, cookies: dict[str, Any]) -> Iterator[Open]:
    """A function that opens a page as a role. When the test ends, nothing may have gone wrong."""
    with ExitStack() as stack:

        def visit(path: str, role: str = "admin", **options: Any) -> Watched:
            watched = stack.enter_context(watch(browser, served.base, cookies[role], **options))
            watched.visit(path)
            return watched

        yield visit


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"])
def scripts(request: pytest.FixtureRequest) -> bool:
    """Whether JavaScript is on."""
    return bool(request.param)


def log_in(watched: Watched, role: str) -> None:
    page = watched.page
    if "/console/login" not in page.url:
        watched.visit("/console")
    page.get_by_label("Email address").fill(ROLES[role])
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def fail_jobs(served: Served, task: str, *calls: list[Any]) -> list[str]:
    """Run jobs that fail, and wait until each one is a dead letter."""
    ids = served.enqueue(task, *calls)
    served.wait_for("failed", *ids)
    return ids


def row_of(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


def wait_for_row(page: Page, text: str) -> Locator:
    """Load a page again until it has a row with this text."""

    def is_there() -> bool:
        if row_of(page, text).count():
            return True
        page.reload()
        return False

    eventually(is_there)
    return row_of(page, text).first


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def said(page: Page) -> Locator:
    return page.get_by_role("status").filter(has_text=re.compile(r"\w")).first


def test_log_in_and_out(served: Served, browser: Browser, cookies: Any, scripts: bool) -> None:
    with watch(browser, served.base, scripts=scripts) as watched:
        page = watched.visit("/console/failures?task=charge_card")
        watched.expected.add(401)
        page.get_by_label("Email address").fill(ROLES["admin"])
        page.get_by_label("Password").fill("a wrong password")
        click(page, "Log in")
        expect(page.get_by_role("alert")).to_have_text("Wrong email address or password.")
        log_in(watched, "admin")
        assert page.url == f"{served.base}/console/failures?task=charge_card"
        click(page, "Log out")
        watched.visit("/console")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_one_dead_letter(served: Served, visit: Open, scripts: bool) -> None:
    """Its arguments are hidden until someone asks for them, and the sensitive one stays masked."""
    order = 101 + scripts
    fail_jobs(served, "charge_card", [order, CARD])
    page = visit("/console/failures?task=charge_card", scripts=scripts).page
    wait_for_row(page, f"order {order}").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="CardDeclined")).to_be_visible()
    expect(page.get_by_text("in charge_card")).to_be_visible()  # the traceback
    assert f'"order": {order}' not in page.content()
    click(page, "Show arguments")
    expect(page.get_by_text(f'"order": {order}')).to_be_visible()
    assert CARD not in page.content()

    served.open_gate("cards")
    click(page, "Replay")
    expect(said(page)).to_contain_text("1 dead letter replayed.")
    link = page.locator("dd a[href*='/console/jobs/']").last
    served.wait_for("completed", link.inner_text())
    served.close_gate("cards")
    link.click()
    expect(page.get_by_text("completed").first).to_be_visible()


def test_a_selection_and_all_dead_letters(served: Served, visit: Open, scripts: bool) -> None:
    orders = [201 + scripts * 10 + number for number in range(4)]
    fail_jobs(served, "pack_parcel", *([order] for order in orders))
    watched = visit("/console/failures?task=pack_parcel", scripts=scripts)
    page = watched.page
    for order in orders:
        wait_for_row(page, f"order {order}")
    replay = page.get_by_role("button", name="Replay selected…")
    expect(replay).to_be_enabled(enabled=not scripts)  # nothing is selected
    for order in orders[:2]:
        row_of(page, f"order {order}").get_by_role("checkbox").check()
    click(page, "Replay selected…")
    expect(page.get_by_role("heading", name="Replay 2 dead letters?")).to_be_visible()
    expect(row_of(page, f"order {orders[2]}")).to_have_count(0)
    click(page, "Replay 2 dead letters")
    expect(said(page)).to_contain_text("2 dead letters replayed.")

    for order in orders[:2]:  # they failed again
        wait_for_row(page, f"order {order}")
    click(page, "Discard all that match…")
    expect(page.get_by_role("heading", name="Discard 4 dead letters?")).to_be_visible()
    click(page, "Discard 4 dead letters")
    expect(said(page)).to_contain_text("4 dead letters discarded.")
    watched.visit("/console/failures?task=pack_parcel")
    expect(page.get_by_text("letters match.")).to_be_visible()
    expect(page.get_by_role("checkbox")).to_have_count(0)
    watched.visit("/console/failures?state=discarded&task=pack_parcel")
    expect(row_of(page, f"order {orders[0]}")).not_to_have_count(0)


def test_a_dead_letter_that_was_decided_before(served: Served, visit: Open, scripts: bool) -> None:
    """Two people replay the same dead letter. The second one gets a message, and it runs once."""
    order = 301 + scripts
    fail_jobs(served, "charge_card", [order, CARD])
    first = visit("/console/failures?task=charge_card", scripts=scripts).page
    wait_for_row(first, f"order {order}").get_by_role("link").first.click()
    expect(first.get_by_role("heading", name="CardDeclined")).to_be_visible()
    second = visit(first.url.removeprefix(served.base)).page
    click(first, "Discard…")
    expect(first.get_by_role("heading", name="Discard 1 dead letter?")).to_be_visible()
    first.get_by_role("link", name="Cancel").click()
    expect(first.get_by_text("dead", exact=True)).to_be_visible()  # nothing has changed
    click(first, "Discard…")
    click(first, "Discard 1 dead letter")
    expect(said(first)).to_contain_text("1 dead letter discarded.")
    click(second, "Replay")
    expect(said(second)).to_contain_text("0 dead letters replayed.")
    expect(said(second)).to_contain_text("1 did not change")
    expect(second.get_by_text("discarded").first).to_be_visible()
    expect(second.get_by_role("button", name="Replay")).to_have_count(0)


def test_a_bulk_discard_needs_a_fresh_log_in(served: Served, browser: Browser) -> None:
    orders = [401, 402]
    fail_jobs(served, "weigh_parcel", *([order] for order in orders))
    with watch(browser, served.base) as watched:
        page = watched.page
        log_in(watched, "admin")
        request(served.port, "/shop/sessions/age", "{}")
        watched.visit("/console/failures?task=weigh_parcel")
        for order in orders:
            wait_for_row(page, f"order {order}")
        click(page, "Discard all that match…")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Email address").fill(ROLES["admin"])
        click(page, "Log in")
        expect(page.get_by_role("heading", name="Discard 2 dead letters?")).to_be_visible()
        click(page, "Discard 2 dead letters")
        expect(said(page)).to_contain_text("2 dead letters discarded.")


def test_a_running_job(served: Served, visit: Open) -> None:
    """The page of a job shows its progress, and updates itself when the job ends."""
    (job_id,) = served.enqueue("import_products", ["boots.csv", 400])
    served.wait_for("running", job_id)
    page = visit("/console/jobs").page
    wait_for_row(page, job_id[:8]).get_by_role("link").first.click()
    expect(page.get_by_role("progressbar")).to_have_attribute("value", re.compile(r"^100(\.0)?$"))
    served.open_gate("boots.csv")
    expect(page.get_by_text("completed").first).to_be_visible()
    expect(page.get_by_role("button", name="Abort")).to_have_count(0)


def test_a_job_is_found(served: Served, visit: Open, scripts: bool) -> None:
    (job_id,) = served.enqueue("send_invoice", [1], trace=f"checkout-{scripts}")
    served.wait_for("completed", job_id)
    page = visit("/console/jobs", scripts=scripts).page
    for text in (job_id, f"checkout-{scripts}"):
        page.get_by_label("Job, correlation or dead letter id").fill(text)
        click(page, "Find")
        wait_for_row(page, job_id[:8])
    page.get_by_label("Job, correlation or dead letter id").fill("nothing-has-this-id")
    click(page, "Find")
    expect(page.get_by_text("No job has this id.")).to_be_visible()


def test_abort_one_a_selection_and_all(served: Served, visit: Open, scripts: bool) -> None:
    (running,) = served.enqueue("import_products", ["gloves.csv"])
    served.wait_for("running", running)
    watched = visit(f"/console/jobs/{running}", scripts=scripts)
    page = watched.page
    click(page, "Abort")
    expect(said(page)).to_contain_text("1 job aborted.")
    served.wait_for("aborted", running)

    waiting = served.enqueue("send_invoice", *([number] for number in range(4)), delay=3600)
    watched.visit("/console/jobs?state=scheduled&task=send_invoice")
    for job_id in waiting[:2]:
        row_of(page, job_id[:8]).get_by_role("checkbox").check()
    click(page, "Abort selected…")
    expect(page.get_by_role("heading", name="Abort 2 jobs?")).to_be_visible()
    click(page, "Abort 2 jobs")
    expect(said(page)).to_contain_text("2 jobs aborted.")
    click(page, "Abort all that match…")
    expect(page.get_by_role("heading", name="Abort 2 jobs?")).to_be_visible()
    click(page, "Abort 2 jobs")
    expect(said(page)).to_contain_text("2 jobs aborted.")
    served.wait_for("aborted", *waiting)


def test_a_job_that_has_ended_is_not_aborted(served: Served, visit: Open) -> None:
    (job_id,) = served.enqueue("import_products", ["scarves.csv"])
    served.wait_for("running", job_id)
    page = visit(f"/console/jobs/{job_id}", scripts=False).page
    served.open_gate("scarves.csv")
    served.wait_for("completed", job_id)
    click(page, "Abort")
    expect(said(page)).to_contain_text("0 jobs aborted. Not aborted: 1 completed.")
    assert served.status(job_id) == "completed"


def test_a_chain(served: Served, visit: Open) -> None:
    (first,) = served.enqueue("close_day", ["2026-11-29"])
    served.wait_for("completed", first)
    page = visit(f"/console/jobs/{first}").page
    stages = page.get_by_role("listitem").filter(has=page.locator(".badge"))
    expect(stages).to_have_text(
        [
            re.compile("completed.*read_orders"),
            re.compile("running.*add_up"),
            re.compile("scheduled|pending.*mail_summary"),
        ]
    )
    served.open_gate("books")
    stages.nth(2).get_by_role("link").click()
    expect(page.get_by_text("completed").first).to_be_visible()


def test_schedules(served: Served, visit: Open, scripts: bool) -> None:
    page = visit("/console/schedules", scripts=scripts).page
    row = wait_for_row(page, "sync_stock")
    click(page, "Disable: sync_stock")
    expect(row).to_contain_text("disabled")
    click(page, "Enable: sync_stock")
    expect(row).to_contain_text("enabled")
    click(page, "Run now: sync_stock")
    expect(said(page)).to_contain_text("1 schedule started.")
    for name in ("sync_stock", "send_newsletter"):
        row_of(page, name).get_by_role("checkbox").check()
    click(page, "Disable selected…")
    expect(page.get_by_role("heading", name="Disable 2 schedules?")).to_be_visible()
    click(page, "Disable 2 schedules")
    expect(said(page)).to_contain_text("2 schedules disabled.")
    page.get_by_label("Schedule or task").fill("s")
    click(page, "Filter")
    click(page, "Enable all that match…")
    page.get_by_role("button", name=re.compile("^Enable .* schedules$")).click()
    expect(row_of(page, "send_newsletter")).to_contain_text("enabled")
    row_of(page, "sync_stock").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Runs of")).to_be_visible()
    wait_for_row(page, "completed")


def list_pages(served: Served, visit: Open) -> list[str]:
    """Return the paths of all pages, with jobs in every state."""
    (letter,) = fail_jobs(served, "fetch_rates", ["EUR"])
    (running,) = served.enqueue("import_products", ["catalogue.csv", 400])
    (completed,) = served.enqueue("send_invoice", [7], trace="order-7")
    (scheduled,) = served.enqueue("send_invoice", [8], delay=3600)
    served.enqueue("close_day", ["2026-11-28"])
    served.wait_for("running", running)
    served.wait_for("completed", completed)
    page = visit("/console/failures?task=fetch_rates").page
    wait_for_row(page, "EUR").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="TimeoutError")).to_be_visible()
    failure = page.url.removeprefix(served.base)
    states = ("pending", "scheduled", "running", "completed", "failed", "aborted")
    chosen = f"id={failure.rpartition('/')[2]}"
    return [
        "/console",
        "/console/failures",
        "/console/failures?task=fetch_rates&error=TimeoutError&since=24h",
        "/console/failures?state=discarded&task=none",
        failure,
        f"/console/failures/confirm?action=discard&{chosen}",
        "/console/failures/confirm?action=replay&task=none&all=1",
        *(f"/console/jobs?state={state}" for state in states),
        "/console/jobs?find=order-7",
        *(f"/console/jobs/{job_id}" for job_id in (letter, running, completed, scheduled)),
        "/console/jobs/confirm?action=abort&all=1&state=scheduled",
        "/console/schedules",
        "/console/schedules?id=sync_stock",
        "/console/schedules/confirm?action=run&id=sync_stock&id=send_newsletter",
        "/console/workers",
        "/console/tasks",
        "/console/audit",
        "/console/login",
    ]


@pytest.fixture(scope="module")
def pages(served: Served, browser: Browser, cookies: dict[str, Any]) -> list[str]:
    with ExitStack() as stack:

        def visit(path: str) -> Watched:
            watched = stack.enter_context(watch(browser, served.base, cookies["admin"]))
            watched.visit(path)
            return watched

        return list_pages(served, visit)


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_everybody_can_use_each_page(
    visit: Open, pages: list[str], width: int, scheme: Scheme
) -> None:
    watched = visit("/console", width=width, scheme=scheme)
    for path in pages:
        watched.visit(path)
        watched.check_access()
        watched.check_width()


@pytest.mark.parametrize(("width", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_each_control_is_reached_by_keyboard(
    visit: Open, pages: list[str], width: int, scheme: Scheme
) -> None:
    watched = visit("/console", width=width, scheme=scheme)
    for path in pages:
        watched.visit(path)
        watched.check_keyboard()


def test_each_page_works_without_scripts(visit: Open, pages: list[str]) -> None:
    watched = visit("/console", scripts=False)
    for path in pages:
        expect(watched.visit(path).get_by_role("heading", level=1)).to_be_visible()
        assert watched.page.get_by_role("button", name="Pause updates").count() == 0


def test_a_viewer_sees_no_action(visit: Open, pages: list[str]) -> None:
    """No page links to a confirmation. A viewer can open one by its address, but not confirm it."""
    watched = visit("/console", role="viewer")
    harmless = {"Filter", "Find", "Log out", "Log in", "Pause updates", "Show arguments"}
    for path in pages:
        watched.expected = {403}
        buttons = set(watched.visit(path).get_by_role("button").all_inner_texts())
        assert buttons <= harmless, path
        assert watched.page.locator("input[type=checkbox]").count() == 0, path


def test_a_missing_thing_has_a_page(visit: Open) -> None:
    watched = visit("/console")
    watched.expected = {404, 422}
    for path in ("/console/failures/none", "/console/jobs/none", "/console/jobs?state=none"):
        page = watched.visit(path)
        expect(page.get_by_role("link", name="Back to the console")).to_be_visible()
        watched.check_access()


def test_a_page_refreshes_itself(served: Served, visit: Open) -> None:
    """A refresh keeps the selection, the focus and open details. A hidden tab sends no request."""
    fail_jobs(served, "print_label", [501])
    watched = visit("/console/failures?task=print_label")
    page = watched.page
    wait_for_row(page, "order 501").get_by_role("checkbox").check()
    row_of(page, "order 501").get_by_role("checkbox").focus()
    fail_jobs(served, "print_label", [502])
    expect(row_of(page, "order 502")).to_have_count(1)
    expect(row_of(page, "order 501").get_by_role("checkbox")).to_be_checked()
    expect(row_of(page, "order 501").get_by_role("checkbox")).to_be_focused()
    expect(row_of(page, "order 502").get_by_role("checkbox")).not_to_be_checked()

    hide(page, True)
    asked = len(watched.requested)
    fail_jobs(served, "print_label", [503])
    page.wait_for_timeout(2.5 * REFRESH_SECONDS * 1000)
    assert len(watched.requested) == asked
    hide(page, False)
    expect(row_of(page, "order 503")).to_have_count(1)

    click(page, "Pause updates")
    asked = len(watched.requested)
    page.wait_for_timeout(1.5 * REFRESH_SECONDS * 1000)
    assert len(watched.requested) == asked
    click(page, "Resume updates")
    page.wait_for_event("response")


def hide(page: Page, is_hidden: bool) -> None:
    """Make the page believe that its tab is hidden, or shown again."""
    page.evaluate(
        """isHidden => {
            for (const [name, value] of [["hidden", isHidden],
                                         ["visibilityState", isHidden ? "hidden" : "visible"]])
                Object.defineProperty(document, name, {configurable: true, get: () => value});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_the_overview(served: Served, visit: Open) -> None:
    page = visit("/console").page
    for title in ("Last hour", "Last 24 hours"):
        expect(page.get_by_role("img", name=title)).to_be_visible()
    page.get_by_role("link", name="dead letter").first.click()
    page.wait_for_url(re.compile("/console/failures"))


def test_workers_come_and_go(served: Served, has_queue: bool, visit: Open) -> None:
    page = visit("/console/workers").page
    expect(page.get_by_role("heading", level=2)).to_have_count(1)
    if has_queue:
        worker = served.start_worker()
        expect(page.get_by_role("heading", level=2)).to_have_count(2)
        served.stop(worker)
        expect(page.get_by_role("heading", level=2)).to_have_count(1)


def test_actions_while_no_worker_runs(
    service: Path, has_queue: bool, tmp_path: Path, browser: Browser
) -> None:
    """Empty pages explain themselves. Pending jobs can be aborted although no worker runs."""
    if not has_queue:
        pytest.skip("the web process is the worker")
    copied = duplicate(service, tmp_path / "service")
    add_shop(copied)
    with serve(copied, tmp_path / "run") as served, watch(browser, served.start_web()) as watched:
        served.run("admin", ROLES["admin"], typed=f"{PASSWORD}\n")
        log_in(watched, "admin")
        page = watched.page
        for path, text in EMPTY.items():
            watched.visit(path)
            expect(page.get_by_text(text)).to_be_visible()
            watched.check_access()
        waiting = served.enqueue("send_invoice", [1], [2])
        watched.visit("/console/jobs?state=pending")
        click(page, "Abort all that match…")
        click(page, "Abort 2 jobs")
        expect(said(page)).to_contain_text("2 jobs aborted.")
        served.wait_for("aborted", *waiting)


def test_two_web_processes_without_the_queue(
    served: Served, has_queue: bool, browser: Browser, cookies: Any
) -> None:
    """Each process has its own jobs, and the console explains this."""
    if has_queue:
        pytest.skip("the queue is on")
    other = served.start_web()
    (job_id,) = served.enqueue("import_products", ["lamps.csv"])
    served.wait_for("running", job_id)
    for base, count in ((served.base, 1), (other, 0)):
        with watch(browser, base, cookies["admin"]) as watched:
            page = watched.visit("/console/jobs?state=running")
            expect(page.get_by_text("shows only the jobs of process")).to_be_visible()
            expect(row_of(page, job_id[:8])).to_have_count(count)
    served.open_gate("lamps.csv")
