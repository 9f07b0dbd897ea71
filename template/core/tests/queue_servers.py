"""A queue's server of one test, and a proxy in front of it that can swallow everything."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from core.dev.servers import HOST, VALKEY, free_port, start_server

CHUNK = 65_536


@contextmanager
def queue_server(folder: Path, *options: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Run a Valkey server for a block.

    Args:
        folder: A folder for its data.
        options: Further options of its command line.

    Yields:
        Its port and its process.
    """
    server = replace(VALKEY, command=lambda port, data: [*VALKEY.command(port, data), *options])
    port = free_port()
    process = start_server(server, folder / f"valkey-{port}", port)
    try:
        yield port, process
    finally:
        process.kill()
        process.wait()


class Proxy:
    """A TCP proxy. While `swallows` is true, it accepts everything and forwards nothing."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.swallows = False
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        """Run the proxy for a block."""
        server = await asyncio.start_server(self._serve, HOST, self.port)
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        there, back = await asyncio.open_connection(HOST, self._target)
        try:
            await asyncio.gather(self._forward(reader, back), self._forward(there, writer))
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()
            back.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            if not self.swallows:
                writer.write(chunk)
                await writer.drain()
        writer.close()
