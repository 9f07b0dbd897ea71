"""A queue's server of one test, its certificate, and a proxy that can swallow everything."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.dev.programs import find_valkey
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


@contextmanager
def sentinel(folder: Path, primary: int) -> Iterator[int]:
    """Run a sentinel for a block. It knows the primary as `main`; two sentinels must agree.

    Args:
        folder: A folder for its data.
        primary: The port of the primary.

    Yields:
        Its port.
    """
    port = free_port()
    config = folder / f"sentinel-{port}.conf"
    config.write_text(
        f"""
        port {port}
        bind {HOST}
        dir {folder}
        sentinel monitor main {HOST} {primary} 2
        sentinel down-after-milliseconds main 500
        sentinel failover-timeout main 3000
        """
    )
    command = [find_valkey(), str(config), "--sentinel"]
    server = replace(VALKEY, command=lambda port, data: command)
    process = start_server(server, folder / f"sentinel-{port}", port)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def write_certificate(folder: Path) -> str:
    """Write a self-signed certificate for 127.0.0.1 with its key, and return the path.

    Args:
        folder: The folder for the file.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "queue.example.com")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, form, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(pem))
    return str(path)


class Proxy:
    """A TCP proxy. While `swallows` is true, it accepts everything and forwards nothing.

    Args:
        target: The port of the server.
        certificate: A file with a certificate and its key. If given, clients must use TLS.
    """

    def __init__(self, target: int, certificate: str | None = None) -> None:
        self.port = free_port()
        self.swallows = False
        self._target = target
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(certificate)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        """Run the proxy for a block."""
        server = await asyncio.start_server(self._serve, HOST, self.port, ssl=self._tls)
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
