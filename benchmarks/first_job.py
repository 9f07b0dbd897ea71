"""An empty folder to the first job of a real worker: two commands, warm cache. Goal: 15 s.

The ratio compares this with `copier --version` in the same run, which shows the machine's speed.

    script/uv run python benchmarks/first_job.py
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import httpx2
from rendering import COPIER, UV, clean_environment, clone_template, copy_service, measure

RUNS = 3
FORM = {"email": "ada@example.com", "password": "correct horse battery", "display_name": "Ada"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sign_up(client: httpx2.Client) -> str:
    """Sign up as soon as the service answers, and return the id of the job."""
    while True:
        try:
            response = client.post("/signup", json=FORM)
        except httpx2.TransportError:
            sleep(0.02)
        else:
            job: str = response.raise_for_status().json()["job_id"]
            return job


def find_token(service: Path) -> str:
    """Return the token of the link in the email that `just dev` catches."""
    inbox = service / ".dev" / "mail" / "maildir" / "new"
    while True:
        for mail in inbox.glob("*"):
            if found := re.search(r"/confirm\?token=(\S+)$", mail.read_text(), re.MULTILINE):
                return found[1]
        sleep(0.02)


def sign_up_and_wait(base: str, service: Path) -> None:
    """Sign up, confirm and log in, as a user would, and wait until the job is completed."""
    with httpx2.Client(base_url=base) as client:
        job = sign_up(client)
        form = {"token": find_token(service), "password": FORM["password"]}
        client.post("/confirm", data=form).raise_for_status()
        login = {"email": FORM["email"], "password": FORM["password"]}
        client.post("/login", json=login).raise_for_status()
        while client.get(f"/jobs/{job}").json()["status"] != "completed":
            sleep(0.02)


@contextmanager
def run_dev(service: Path, port: int) -> Iterator[None]:
    """Run `just dev` until the block ends, and check that a worker completed a job."""
    log = service.with_suffix(".log")
    with log.open("w") as output:
        dev = subprocess.Popen(
            [UV, "run", "just", "dev"],
            cwd=service,
            env=clean_environment() | {"PORT": str(port)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(dev.pid, signal.SIGINT)
            dev.wait()
    if not re.search(r" worker .*job completed", log.read_text()):
        raise SystemExit("no worker completed a job")


def measure_first_job(template: Path, service: Path) -> float:
    port = free_port()
    copied = copy_service(template, service)
    started = perf_counter()
    with run_dev(service, port):
        sign_up_and_wait(f"http://127.0.0.1:{port}", service)
        return copied + perf_counter() - started


def main() -> None:
    times = []
    versions = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        clone = clone_template(folder)
        for number in range(RUNS + 1):
            versions.append(measure(COPIER, "--version", cwd=folder))
            times.append(measure_first_job(clone, folder / f"service-{number}"))
    first = median(times[1:])  # the first run fills the package cache
    ratio = first / median(versions[1:])
    print(f"first job after {first:.1f} s (goal: 15 s), {ratio:.1f}x the time of copier --version")


if __name__ == "__main__":
    main()
