"""Run every command of the documents, or name the test that runs it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from conftest import ROOT, clean_environment, commit_all, copy, free_port, git, run
from pages import commands, confirm_address, list_mails

SECONDS = 600
FOREVER = "uv run just dev"


def execute(command: str, cwd: Path, shell: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=shell, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def in_background(command: str, cwd: Path, shell: dict[str, str], log: Path) -> Iterator[str]:
    """Run a command until Ctrl-C. Yields the address of its web server when it is ready."""
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd,
            env={**shell, "PORT": str(port)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS
        while not is_ready(base):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield base
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(SECONDS)


def is_ready(base: str) -> bool:
    try:
        return httpx2.get(f"{base}/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


def test_the_readme(template: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    run("git", "clone", "--quiet", str(template), "groundwork", cwd=tmp_path)
    first, second = commands(ROOT / "README.md")
    quickstart = commands(ROOT / "docs" / "quickstart.md")
    assert quickstart[:2] == [first, second]  # test_pages.py runs the others
    again, variant = commands(ROOT / "docs" / "how-to" / "copy.md")
    assert again == first
    check, update, drain, off, on, change = commands(ROOT / "docs" / "how-to" / "update.md")

    execute(first, tmp_path, shell)
    service = tmp_path / "my-service"
    assert second == f"cd my-service && {FOREVER}"
    with in_background(second, tmp_path, shell, tmp_path / "dev.log") as base:
        assert httpx2.get(f"{base}/docs").status_code == 200
        assert execute(drain, service, shell) == "0 pending, 0 running, 0 scheduled\n"
        schedules = execute("uv run just schedules", service, shell)
        assert re.search(r"^send_daily_digest +enabled ", schedules, re.MULTILINE)

    execute(variant, tmp_path, shell)
    assert (tmp_path / "parcels" / "README.md").read_text().startswith("# Parcel Tracker\n")

    assert "worker-dev" in execute("uv run just", service, shell)
    git(service, "init", "--quiet")
    commit_all(service, "mine")
    assert execute(check, service, shell) == "v0.1.0 is the newest version.\n"
    execute(update, service, shell)
    assert git(service, "status", "--porcelain") == ""
    for switch, is_on in ((off, False), (on, True)):
        execute(switch, service, shell)
        engine = service / "core" / "tasks" / "engines" / "redis" / "engine.py"
        assert engine.exists() is is_on
        changed = git(service, "status", "--porcelain").splitlines()
        assert all(
            line[3:].startswith(("core/", ".copier-answers.yml", "uv.lock")) for line in changed
        ), changed
        commit_all(service, switch)
        # Each switch resolves the packages again. test_rendered.py runs all tests.
        test = "uv run just test -q tests/test_emails.py tests/test_orders.py"
        assert " passed" in execute(f"uv sync --quiet && {test}", service, shell)
    execute(change, service, shell)
    assert "task_engine: celery\n" in (service / ".copier-answers.yml").read_text()
    assert 'name = "celery"\n' in (service / "uv.lock").read_text()
    assert not engine.exists()


def write_notes(service: Path) -> None:
    """Give a service a task that takes notes, and its route. A note `broken` fails until mended."""
    for name, old, new in (
        ("app/tasks/worker.py", "from . import ", "from . import notes, "),
        ("app/main.py", "routers=[", "routers=[notes.router, "),
        ("app/main.py", "from app.tasks", "from app.routes import notes\nfrom app.tasks"),
    ):
        text = (service / name).read_text()
        assert old in text
        (service / name).write_text(text.replace(old, new, 1))
    (service / "app" / "tasks" / "notes.py").write_text(
        "from pathlib import Path\n\nfrom app.tasks.worker import worker\n\n\n"
        "@worker.task(max_retries=0)\nasync def take_note(text: str) -> None:\n"
        '    if text == "broken" and not Path(".dev/mended").exists():\n'
        "        raise ValueError(text)\n"
        '    with Path(".dev/notes.txt").open("a") as file:\n        file.write(text + "\\n")\n'
    )
    (service / "app" / "routes" / "notes.py").write_text(
        "from fastapi import APIRouter\n\nfrom app.tasks.notes import take_note\n\n"
        "router = APIRouter()\n\n\n"
        '@router.post("/notes/{text}")\nasync def post_note(text: str, delay: float = 0) -> None:\n'
        "    await take_note.using(delay=delay).enqueue(text)\n"
    )


def take_note(base: str, text: str, delay: float = 0) -> None:
    httpx2.post(f"{base}/notes/{text}", params={"delay": delay}).raise_for_status()


def read_notes(service: Path) -> list[str]:
    return sorted((service / ".dev" / "notes.txt").read_text().split())


def test_a_service_in_use_switches_the_queue(
    template: Path, tmp_path: Path, shell: dict[str, str]
) -> None:
    """Disable the queue and enable it again. No job is lost, drained or left in the queue."""
    service = copy(template, tmp_path / "service")
    write_notes(service)
    commit_all(service, "mine")
    app = git(service, "rev-parse", "HEAD:app")
    dev_log = tmp_path / "dev.log"

    def notes() -> list[str]:
        return read_notes(service)

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in notes():
            assert time.monotonic() < deadline, dev_log.read_text()
            time.sleep(0.1)

    with in_background(FOREVER, service, shell, dev_log) as base:
        take_note(base, "at-once")
        take_note(base, "later", delay=2)
        execute("uv run just drain", service, shell)
        assert notes() == ["at-once", "later"]
        take_note(base, "never", delay=6000)
        refused = subprocess.run(
            ["bash", "-c", "uv run just disable-job-queue"],
            cwd=service,
            env=shell,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "0 running, 1 scheduled. If you disable the queue, they wait" in refused.stderr
        assert (refused.returncode, git(service, "status", "--porcelain")) == (1, "")
        take_note(base, "left", delay=3)
    printed = execute("uv run just disable-job-queue", service, shell)
    assert "the jobs in the queue were not counted" in printed  # its server no longer runs
    commit_all(service, "off")
    with in_background(FOREVER, service, shell, dev_log) as base:
        take_note(base, "without", delay=3)
        wait_for("without")
        assert notes() == ["at-once", "later", "without"]
    execute("uv run just enable-job-queue", service, shell)
    commit_all(service, "on")
    with in_background(FOREVER, service, shell, dev_log):
        wait_for("left")
    assert notes() == ["at-once", "later", "left", "without"]
    assert git(service, "rev-parse", "HEAD:app") == app


def test_the_readme_of_a_service(template: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    service = copy(template, tmp_path / "service")
    dev, sign_up, log_in, look = commands(service / "README.md")
    assert dev == FOREVER
    with in_background(dev, service, shell, tmp_path / "dev.log") as base:

        def follow(command: str) -> str:
            return execute(command.replace("http://127.0.0.1:8000", base), service, shell)

        job_id = re.findall(r'"job_id":"([^"]+)"', follow(f"{sign_up} --silent"))[0]
        assert "Start page" in httpx2.get(base).text
        assert "You can now log in" in confirm_address(base, "correct horse")
        follow(log_in)
        look = look.replace("JOB_ID", job_id)
        wait_until(lambda: '"status":"completed"' in follow(look))
        wait_until(lambda: len(list_mails(base)) == 2)


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_contributing() -> None:
    """Everything that it names exists. Tests below run some of the commands."""
    for command in commands(ROOT / "CONTRIBUTING.md"):
        program, *arguments = shlex.split(command)
        assert os.access(ROOT / program, os.X_OK), command
        assert all(
            (ROOT / argument).exists()
            for argument in arguments
            if not argument.startswith("-") and argument != "X.Y.Z"
        ), command


def test_the_locks_are_what_script_lock_writes(template: Path, tmp_path: Path) -> None:
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    run(str(clone / "script" / "lock"), cwd=clone)
    assert git(clone, "status", "--porcelain") == ""


def run_demo(
    clone: Path, *options: str, port: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the demo. On its default port it could meet another one, which runs at the same time."""
    return subprocess.run(
        [str(clone / "script" / "demo"), *options],
        cwd=clone,
        env={**clean_environment(), "PORT": str(port or free_port())},
        capture_output=True,
        text=True,
        timeout=600,
    )


class Stranger(BaseHTTPRequestHandler):
    """Another program, which answers as a service that is ready."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.mark.parametrize("engine", ["redis", "celery"])
def test_the_demo(template: Path, tmp_path: Path, engine: str) -> None:
    """It works in a fresh clone, where its first user runs it."""
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    done = run_demo(clone, *([] if engine == "redis" else ["--engine", engine]))
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout
    assert re.search(r"^demo \| GET /jobs/\S+: completed$", output, re.MULTILINE)
    assert "To: ada@example.com" in output
    assert output.count('"correlation_id": "demo-sign-up-1"') == 2
    answers = (clone / "demo" / "my-service" / ".copier-answers.yml").read_text()
    assert f"\ntask_engine: {engine}\n" in answers


def test_the_demo_does_not_take_another_program_for_the_service(
    template: Path, tmp_path: Path
) -> None:
    """It takes the port after the demo and `just dev` looked at it."""
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    port = free_port()
    is_started = clone / "demo" / "my-service" / ".dev" / "mongod.log"
    ended = threading.Event()

    def take_the_port() -> None:
        while not is_started.exists():
            if ended.wait(0.01):
                return
        with ThreadingHTTPServer(("127.0.0.1", port), Stranger) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ended.wait()
            server.shutdown()

    thread = threading.Thread(target=take_the_port)
    thread.start()
    try:
        done = run_demo(clone, port=port)
    finally:
        ended.set()
        thread.join()
    assert done.returncode == 1
    assert f"FAILED: another program answers on port {port}" in done.stdout
    assert "everything worked" not in done.stdout


def test_uv_is_installed_if_it_is_missing(template: Path, tmp_path: Path) -> None:
    """It goes to an ignored folder of the repository. A machine needs only Python and git."""
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("sh", "dirname"):
        (bare / tool).symlink_to(str(shutil.which(tool)))
    (bare / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    environment = {**clean_environment(), "PATH": str(bare)}
    command = [str(clone / "script" / "uv"), "--version"]
    for is_missing in (True, False):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.stdout.startswith("uv 0.")
        assert ("uv is missing: installing it into .cache/uv" in done.stderr) is is_missing
    assert git(clone, "status", "--porcelain") == ""


def test_the_readme_works_without_uv(template: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    """Its two commands run through `script/uv`, as the quickstart says. Home is empty."""
    run("git", "clone", "--quiet", str(template), "groundwork", cwd=tmp_path)
    bare = tmp_path / "bin"
    link_programs(bare, without=("uv", "uvx"))
    shell = {**shell, "PATH": str(bare)}
    first, second, *_ = commands(ROOT / "README.md")
    missing = subprocess.run(["bash", "-c", first], env=shell, capture_output=True, text=True)
    page = (ROOT / "docs" / "quickstart.md").read_text()
    assert "uvx: command not found" in missing.stderr
    assert "(`uvx: command not found`)" in page

    found = re.findall(r"`(~/groundwork/[^`]+)` instead of `(uvx?)`", page)
    instead = {program: replacement for replacement, program in found}
    assert instead.keys() == {"uv", "uvx"}
    first, second = (
        re.sub(r"\buvx? ", lambda word: f"{instead[word[0].strip()]} ", command)
        for command in (first, second)
    )
    execute(first, tmp_path, shell)
    with in_background(second, tmp_path, shell, tmp_path / "dev.log") as base:
        assert httpx2.get(f"{base}/docs").status_code == 200


def link_programs(folder: Path, without: tuple[str, ...]) -> None:
    """Link the programs on PATH into a folder, except some."""
    folder.mkdir()
    (folder / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*"):
            link = folder / program.name
            if program.name not in without and not link.is_symlink():
                link.symlink_to(program)


def test_the_demo_fails_when_a_promise_is_not_kept(template: Path, tmp_path: Path) -> None:
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    emails = clone / "template" / "app" / "services" / "user_email.py"
    text = emails.read_text()
    assert "    await send_email(" in text
    emails.write_text(text.replace("    await send_email(", "    _ = dict("))
    commit_all(clone, "break the mail")
    done = run_demo(clone)
    assert done.returncode == 1
    assert "FAILED: this did not happen: the email arrives" in done.stdout
