"""The servers and workers of a benchmark, which the benchmark breaks."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from driver_servers import stop

from core.dev.servers import HOST, MONGODB, VALKEY, Server, free_port, start_server

WORKERS = 2
CHUNK = 65536


class Proxy:
    """A TCP proxy on the loopback interface that can swallow everything that it receives.

    Args:
        port: The port of the server behind it.
    """

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.forwards = threading.Event()
        self.forwards.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        # Data that arrives while the proxy swallows is never delivered, as behind a dead router.
        with source:
            try:
                while data := source.recv(CHUNK):
                    if self.forwards.is_set():
                        target.sendall(data)
            except OSError:
                pass
            finally:
                target.close()


class Machine:
    """The servers and the workers of one run. A worker that ends is started again.

    The caller, which is this process, reaches Valkey through a proxy.

    Args:
        folder: The folder for their data and logs.
        settings: Further settings of the caller and the workers.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self._ports = {MONGODB.name: free_port(), VALKEY.name: free_port()}
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._log = (folder / "workers.log").open("wb")
        self.workers: list[subprocess.Popen[bytes]] = []
        self.web: subprocess.Popen[bytes] | None = None
        self.worker_settings: dict[str, str] = {}
        """Settings of the workers that start from now on."""
        self.settings = {
            "SECRET_KEY": secrets.token_hex(32),
            "MONGODB_URL": MONGODB.url(self.port(MONGODB)),
            "REDIS_URL": VALKEY.url(self.port(VALKEY)),
            "LOG_LEVEL": "WARNING",
            "TASK_GRACE_PERIOD": "5",
            **settings,
        }
        self.proxy = Proxy(self.port(VALKEY))
        os.environ.update(self.settings, REDIS_URL=VALKEY.url(self.proxy.port))

    def port(self, server: Server) -> int:
        return self._ports[server.name]

    def start_servers(self) -> None:
        self.start(MONGODB)
        self.start(VALKEY)

    def start(self, server: Server) -> None:
        data = self._folder / server.name
        self._servers[server.name] = start_server(server, data, self.port(server))

    def stop(self, server: Server) -> None:
        """Stop a server in an orderly way."""
        process = self._servers.pop(server.name)
        process.terminate()
        process.wait()

    def signal(self, server: Server, number: signal.Signals) -> None:
        self._servers[server.name].send_signal(number)

    def pid(self, server: Server) -> int:
        return self._servers[server.name].pid

    def start_web(self, port: int) -> None:
        """Start the web process of the service."""
        self.web = self._start("web", {"PORT": str(port)})

    def keep_workers(self) -> None:
        """Start a worker for each one that has ended."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < WORKERS:
            self.workers.append(self._start("worker", self.worker_settings))

    def _start(self, name: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "core", name]
        environment = os.environ | self.settings | settings
        return subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)

    async def replace_worker(self) -> None:
        """Let the oldest worker stop in an orderly way. Another one takes its place."""
        worker = self.workers[0]
        worker.terminate()
        await asyncio.to_thread(worker.wait)
        self.keep_workers()

    def close(self) -> None:
        self.proxy.close()
        web = [self.web] if self.web else []
        for process in [*web, *self.workers, *self._servers.values()]:
            stop(process)  # SIGKILL ends a frozen process too
        self._log.close()
