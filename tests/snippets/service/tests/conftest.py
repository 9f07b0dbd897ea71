"""What the tests of the pasted snippets share."""

import asyncio
import os

import pytest

from core.testing import eventually


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """Return the lines that stand-ins wrote, in this process or in the worker."""
    path = tmp_path / "notes.txt"
    path.touch()
    monkeypatch.setenv("NOTES", str(path))
    return lambda: path.read_text().splitlines()


@pytest.fixture
def printed(tmp_path, monkeypatch, capfd, caplog):
    """Return what jobs have printed and logged. List it before `running_worker`."""
    path = tmp_path / "printed.txt"
    with path.open("w") as file:
        # The worker inherits these. Before the test begins, pytest sets its own again.
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    caplog.set_level("INFO")
    here = []  # without the queue, jobs run in this process

    def read():
        here.extend(capfd.readouterr())
        return "\n".join([path.read_text(), *here, caplog.text])

    return read


@pytest.fixture
async def api():
    """The URL of an external API."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"answer\": 42}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.fixture
def completed():
    """Enqueue a job many times, and return the first result.

    The delay before a retry is random, so one of many jobs is retried soon.
    """

    async def enqueue(task, *arguments, jobs=50):
        queued = await task.enqueue_many([arguments] * jobs)

        async def find():
            return [job for job in queued if await job.status() == "completed"]

        job = (await eventually(find))[0]
        assert (await job.record()).attempt == 2
        return await job.result()

    return enqueue
