"""The health check of a container."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from core.dev.servers import free_port
from core.health_check import find_port, is_live


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_well = self.server.status == 200 and self.path == "/health/live"  # type: ignore[attr-defined]
        self.send_response(200 if is_well else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    server.status = 200  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_it_asks_whether_the_process_is_live(server):
    assert is_live(server.server_port)
    server.status = 503
    assert not is_live(server.server_port)
    assert not is_live(free_port())


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("python -m core web", 8000),
        ("/sbin/docker-init -- python -m core worker", 8001),
        ("python -m core worker --processes 4", 8001),
    ],
)
def test_the_first_process_tells_the_port(command, port, monkeypatch):
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("WORKER_PORT", "8001")
    assert find_port(command) == port


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("python -m core worker", "WORKER_PORT", ""),
        ("python -m core worker", "WORKER_PORT", "many"),
        ("python -m core web", "PORT", "many"),
    ],
)
def test_a_wrong_port_is_told(command, name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} must be the port of the health check, not"):
        find_port(command)


def test_the_port_of_the_web_process_is_a_setting(monkeypatch):
    monkeypatch.setenv("PORT", "9000")
    assert find_port("python -m core web") == 9000
