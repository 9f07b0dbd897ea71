"""The real web process, with clients that are slow, send too much, or come through a proxy."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import repeat
from pathlib import Path

import httpx2
import pytest

from core.dev.servers import HOST
from core.testing import eventually
from core.tests.running import WAIT
from core.tests.servers.web_process import web_process

SERVICE = """
import asyncio
import gc
from typing import Any
from fastapi import APIRouter, Body, Request
from fastapi.responses import StreamingResponse
from core.entry import Service
from core.tasks import Worker

router = APIRouter()
ended = []

@router.post("/length")
async def measure(form: Any = Body()) -> int:
    return len(form)

@router.post("/refuse", status_code=401, max_body_size=10**12)
async def refuse() -> str:
    return "refused" * 1000

@router.get("/slow")
async def answer_slowly() -> str:
    await asyncio.sleep(3)
    return "done"

@router.get("/endless")
async def send_endlessly() -> StreamingResponse:
    async def pieces():
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)
        finally:
            ended.append(1)
    return StreamingResponse(pieces())

@router.get("/ended")
async def count_ended() -> int:
    return len(ended)

@router.get("/frozen")
async def count_frozen() -> int:
    return gc.get_freeze_count()

@router.get("/client")
async def show_client(request: Request) -> str:
    return request.client.host

service = Service([], [router], Worker())
"""
HEADERS = f"Host: {HOST}\r\nContent-Type: application/json\r\n"
POST = f"POST /length HTTP/1.1\r\n{HEADERS}"
REFUSE = f"POST /refuse HTTP/1.1\r\n{HEADERS}"
LIVE = f"GET /health/live HTTP/1.1\r\n{HEADERS}\r\n"
LAST = f"GET /health/live HTTP/1.1\r\n{HEADERS}Connection: close\r\n\r\n"
FORWARDED = {"X-Forwarded-For": "192.0.2.7"}


class Web:
    """A running web process."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self._log = log

    async def connect(self, sent: str) -> tuple[StreamReader, StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        writer.write(sent.encode())
        return reader, writer

    async def get(self, path: str, headers: dict[str, str] | None = None) -> object:
        async with httpx2.AsyncClient(timeout=WAIT) as client:
            return (await client.get(f"{self.url}{path}", headers=headers)).json()

    def lines_with(self, text: str) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if text in line]


@pytest.fixture
def start_web(settings, tmp_path):
    """Return a function that runs the web process for a block."""

    @asynccontextmanager
    async def start_web(**changes: str) -> AsyncIterator[Web]:
        async with web_process(tmp_path, SERVICE, **changes) as port:
            yield Web(port, tmp_path / "log")

    return start_web


async def read_all(reader: StreamReader) -> bytes:
    """Read until the server closes the connection."""
    content = b""
    async with asyncio.timeout(WAIT):
        try:
            while piece := await reader.read(65536):
                content += piece
        except ConnectionResetError:
            pass
        return content


async def drip(writer: StreamWriter, pieces: Iterable[bytes]) -> None:
    """Send a piece every tenth of a second, until the server closes the connection."""
    for piece in pieces:
        if writer.is_closing():
            return
        writer.write(piece)
        await asyncio.sleep(0.1)


async def test_requests_that_do_not_arrive_are_cut_off(start_web):
    async with start_web(CLIENT_TIMEOUT="1") as web:
        slow = await web.connect("GET /health/live HTTP/1.1\r\nX-Slow: ")
        dripping = asyncio.create_task(drip(slow[1], [b"a"] * 1000))
        # A connection without a byte, a half-sent request, and one after an answered request.
        silent = [await web.connect(sent) for sent in ("", POST, f"{LIVE}{LIVE[:20]}")]
        working = asyncio.create_task(web.get("/slow"))  # longer than the timeout
        answers = [await read_all(reader) for reader, _ in (slow, *silent)]
        assert [answer.count(b"200 OK") for answer in answers] == [0, 0, 0, 1]
        assert await working == "done"
        assert await web.get("/health/live") == {"status": "ok"}
        dripping.cancel()
        for _, writer in (slow, *silent):
            writer.close()


async def test_bodies_that_arrive_too_slowly_are_cut_off(start_web):
    async with start_web(CLIENT_TIMEOUT="3") as web:
        fixed = await web.connect(f"{POST}Content-Length: 100000\r\n\r\n")
        chunked = await web.connect(f"{POST}Transfer-Encoding: chunked\r\n\r\n")
        stalled = await web.connect(f"{POST}Content-Length: 100000\r\n\r\n{' ' * 99_000}")
        steady = await web.connect(f"{POST}Content-Length: 20002\r\n\r\n[")
        dripping = [
            asyncio.create_task(drip(fixed[1], [b" "] * 1000)),
            asyncio.create_task(drip(chunked[1], [b"1\r\n \r\n"] * 1000)),
            asyncio.create_task(drip(steady[1], [*[b" " * 500] * 40, b"]"])),
        ]
        for reader, writer in (fixed, chunked, stalled):
            assert await read_all(reader) == b""
            writer.close()
        await asyncio.gather(*dripping)
        assert (await steady[0].readline()).startswith(b"HTTP/1.1 200 ")
        steady[1].close()


async def test_a_client_that_reads_nothing_is_cut_off(start_web):
    async with start_web(CLIENT_TIMEOUT="1") as web:
        reader, writer = await web.connect(f"GET /endless HTTP/1.1\r\n{HEADERS}\r\n")
        clock = asyncio.get_running_loop()
        stops_at = clock.time() + 2
        while clock.time() < stops_at:
            assert await reader.read(65536)
        await eventually(lambda: web.get("/ended"), WAIT)
        writer.transport.abort()


async def test_a_large_body_is_refused_before_it_is_read(start_web):
    async with start_web() as web:
        # A body of 1 MB that is read makes no full collection of what the process has imported.
        assert await web.get("/frozen")
        reader, writer = await web.connect(f"{POST}Content-Length: 25000000\r\n\r\n[")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()

        reader, writer = await web.connect(f"{POST}Transfer-Encoding: chunked\r\n\r\n")
        status = asyncio.create_task(reader.readline())
        sent = 0
        while not status.done() and sent < 100:  # megabytes
            writer.write(b"100000\r\n" + bytes(1024 * 1024) + b"\r\n")
            drained = asyncio.create_task(writer.drain())
            await asyncio.wait([status, drained], return_when=asyncio.FIRST_COMPLETED)
            drained.cancel()
            sent += 1
        assert (await status).startswith(b"HTTP/1.1 413 ")
        assert sent < 25
        writer.transport.abort()


async def test_a_body_that_nobody_reads_keeps_no_connection(start_web):
    async with start_web(CLIENT_TIMEOUT="1") as web:
        fixed = await web.connect(f"{REFUSE}Content-Length: {10**12}\r\n\r\n")
        chunked = await web.connect(f"{REFUSE}Transfer-Encoding: chunked\r\n\r\n")
        waiting = await web.connect(
            f"{REFUSE}Expect: 100-continue\r\nContent-Length: {10**12}\r\n\r\n"
        )
        clients = (fixed, chunked, waiting)
        dripping = [
            asyncio.create_task(drip(fixed[1], repeat(b" " * 500))),
            asyncio.create_task(drip(chunked[1], repeat(b"1f4\r\n%b\r\n" % (b" " * 500)))),
            asyncio.create_task(drip(waiting[1], repeat(b" " * 500))),
        ]
        for reader, _ in clients:
            answer = await read_all(reader)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert answer.endswith(b"refused" * 1000 + b'"')
        await asyncio.gather(*dripping)
        for _, writer in clients:
            writer.close()


@pytest.mark.parametrize("header", ["", "Expect: 100-continue\r\n"])
async def test_a_client_that_sends_all_before_it_reads_gets_the_answer(start_web, header):
    async with start_web() as web:
        size = 25_000_000
        for path, status in (("/refuse", b"401"), ("/length", b"413")):
            head = f"POST {path} HTTP/1.1\r\n{HEADERS}{header}Content-Length: {size}\r\n\r\n"
            reader, writer = await web.connect(head)
            writer.write(bytes(size))
            await writer.drain()
            # The connection is still good for the next request.
            writer.write(LAST.encode())
            answer = await read_all(reader)
            assert answer.startswith(b"HTTP/1.1 %b " % status)
            assert answer.count(b"HTTP/1.1 200 OK") == 1
            writer.close()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_a_proxy_that_is_not_named_is_told_once(start_web, header):
    async with start_web(FORWARDED_ALLOW_IPS="192.0.2.1") as web:
        await web.get("/health/live")
        assert not web.lines_with("FORWARDED_ALLOW_IPS")
        for _ in range(3):
            assert await web.get("/client", {header: "for=192.0.2.7"}) == HOST
        (line,) = await eventually(lambda: web.lines_with("FORWARDED_ALLOW_IPS"), WAIT)
        assert f"proxy={HOST}" in line


async def test_a_proxy_that_is_named_gives_the_address_of_the_client(start_web):
    async with start_web(FORWARDED_ALLOW_IPS=f"192.0.2.0/24,{HOST}") as web:
        assert await web.get("/client", FORWARDED) == "192.0.2.7"
        assert await web.get("/health/live") == {"status": "ok"}
        assert not web.lines_with("FORWARDED_ALLOW_IPS")
