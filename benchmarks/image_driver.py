"""Measures the image. `image.py` runs this in the service that it renders."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from driver_servers import run_servers, stop

from core.dev.servers import MONGODB, VALKEY, free_port

RUNS = 5
POLL_SECONDS = 0.02
IMAGE = "localhost/groundwork-benchmark"
ONE_STAGE = """\
ARG BASE
FROM ${BASE}
RUN pip install 'uv>=0.13,<0.14'
WORKDIR /service
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 PATH=/service/.venv/bin:$PATH
COPY . .
RUN uv sync --locked --no-dev
CMD ["python", "-m", "core", "web"]
"""


class Images:
    """Builds and runs images.

    Args:
        script: The path of `script/image`.
    """

    def __init__(self, script: str) -> None:
        self._script = script

    def call(self, *arguments: str) -> str:
        """Run the script, and return what it prints."""
        command = [self._script, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def build(self, tag: str, *dockerfile: str) -> float:
        """Build an image, and return its size in MB."""
        self.call("build", tag, ".", *dockerfile)
        return int(self.call("image", "inspect", "--format", "{{.Size}}", tag)) / 1e6

    @contextmanager
    def run(self, port: int, variables: dict[str, str]) -> Iterator[None]:
        """Run a web process in a container for a block."""
        name = f"groundwork-benchmark-{port}"
        environment = [f"--env={key}={value}" for key, value in variables.items()]
        self.call("run", name, *environment, f"--env=PORT={port}", IMAGE)
        try:
            yield
        finally:
            self.call("rm", "--force", "--time", "0", name)


@contextmanager
def run_process(port: int, variables: dict[str, str]) -> Iterator[None]:
    """Run a web process outside of a container for a block."""
    environment = {**os.environ, **variables, "PORT": str(port)}
    command = [sys.executable, "-m", "core", "web"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        stop(process)


def wait_until_live(port: int) -> None:
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(POLL_SECONDS)
        finally:
            connection.close()


def measure_starts(images: Images, variables: dict[str, str]) -> tuple[float, float]:
    """Return the seconds until a container and a plain process are live, by turns."""
    times: dict[str, list[float]] = {"container": [], "process": []}
    for number in range(RUNS + 1):
        for name, run in (("container", images.run), ("process", run_process)):
            port = free_port()
            started = time.perf_counter()
            with run(port, variables):
                wait_until_live(port)
                if number:  # the first start reads the files from the disk
                    times[name].append(time.perf_counter() - started)
    return median(times["container"]), median(times["process"])


def main() -> None:
    images = Images(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        one_stage = Path(folder) / "Dockerfile"
        one_stage.write_text(ONE_STAGE)
        size = images.build(IMAGE, "core/Dockerfile")
        large = images.build(f"{IMAGE}-one-stage", str(one_stage))
        variables = {
            **{name: os.environ[name] for name in ("MONGODB_URL", "REDIS_URL")},
            "ENVIRONMENT": "production",
            "SECRET_KEY": secrets.token_hex(32),
            "SMTP_URL": "smtp://127.0.0.1:1",
            "MAIL_FROM": "me@example.com",
            "PUBLIC_URL": "http://127.0.0.1",
            "BLOB_URL": f"{tempfile.gettempdir()}/blobs",
        }
        container, process = measure_starts(images, variables)
        images.call("rmi", "--force", IMAGE, f"{IMAGE}-one-stage")
    print(f"image: {size:.0f} MB, {size / large:.2f}x the image of one stage ({large:.0f} MB)")
    print(
        f"live after {container:.2f} s, {container / process:.2f}x the process without a container "
        f"({process:.2f} s)"
    )


if __name__ == "__main__":
    main()
