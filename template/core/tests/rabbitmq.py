"""A RabbitMQ server of one test, from the package of Debian."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from core.dev.servers import HOST, Server, free_port, start_server

BIN = Path("/usr/lib/rabbitmq/bin")
"""The package's own scripts. The ones on PATH change the user."""
STOP_SECONDS = 60
MISSING = "RabbitMQ is not installed; on Debian and Ubuntu, run `apt-get install rabbitmq-server`"


class RabbitMQ:
    """A server that a test starts and stops. Its data stay.

    Args:
        folder: The folder for its data.

    Attributes:
        url: Its URL.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._distribution, self._names = (free_port() for _ in range(3))
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"amqp://guest:guest@{HOST}:{self._port}//"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        server = Server("rabbitmq", "BROKER_URL", lambda port: self.url, self._command)
        self._process = start_server(server, self._folder, self._port)

    def stop(self) -> None:
        """Stop it in order. A quorum queue that is a second old may not survive a kill."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, and remove its port mapper."""
        self._end(signal.SIGKILL)
        # The port mapper of Erlang is a process by itself, which outlives the server.
        mapper = shutil.which("epmd")
        if mapper:
            subprocess.run([mapper, "-port", str(self._names), "-kill"], stdout=subprocess.DEVNULL)

    def _end(self, number: int) -> None:
        if self._process:
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(self._process.pid, number)
            self._process.wait(STOP_SECONDS)

    def run(self, *arguments: str) -> str:
        """Run `rabbitmqctl`, and return what it prints.

        Args:
            *arguments: Its arguments.
        """
        command = [str(BIN / "rabbitmqctl"), "-q", "-n", self._node, *arguments]
        environment = {**os.environ, **self._environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    @property
    def _node(self) -> str:
        return f"test-{self._port}@localhost"

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._folder),  # for the cookie that its nodes share
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # else it ends only when it knows no node
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self._folder),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
        }

    def _command(self, port: int, data: Path) -> list[str]:
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return ["env", *variables, str(BIN / "rabbitmq-server")]


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[RabbitMQ]:
    """Run a server for a block. Without RabbitMQ's package, the test is skipped.

    Args:
        folder: The folder for its data.
    """
    if not (BIN / "rabbitmq-server").exists():
        pytest.skip(MISSING)
    server = RabbitMQ(folder / "rabbitmq")
    try:
        server.start()
        yield server
    finally:
        server.kill()
