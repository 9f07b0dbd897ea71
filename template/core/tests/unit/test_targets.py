"""Requests to addresses that users name reach public addresses only."""

import datetime
import random
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.config import get_settings
from core.services import targets
from core.services.targets import TargetRefused, check_target, is_public, open_public_client

ADJOINING = {"224.0.0.0/4", "240.0.0.0/4"}
"""Two networks without a gap between them. The others have public addresses on both sides."""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("2002:808:808::", False),
        ("2001:0:7f00:1::", False),
        ("2001:1::1", False),
        ("2001:db8::1", False),
        ("2620:4f:8000::1", False),
        ("100::1", False),
        ("192.0.0.9", False),
        ("192.0.0.192", False),
        ("192.31.196.1", False),
        ("192.88.99.1", False),
        ("168.63.129.16", False),
        ("168.63.129.17", True),
        ("::ffff:168.63.129.16", False),
        ("64:ff9b::192.88.99.1", False),
        ("fec0::1", False),
        ("::127.0.0.1", False),
        ("64:ff9b:1::1", False),
        ("::ffff:0:7f00:1", False),
        ("5f00::1", False),
        ("3fff::1", False),
        ("4000::1", False),
    ],
)
def test_public_addresses_are_those_of_the_internet(address, expected):
    assert is_public(address) is expected


@pytest.mark.parametrize("network", targets.SPECIAL_PURPOSE.split())
def test_special_networks_are_refused_up_to_their_ends(network):
    parsed = ip_network(network)
    first, last = parsed.network_address, parsed.broadcast_address
    assert not is_public(str(first))
    assert not is_public(str(last))
    if network not in ADJOINING:
        assert is_public(str(last + 1))
        assert int(first) == 0 or is_public(str(first - 1))


def test_no_address_is_public_that_python_knows_as_private():
    chosen = random.Random(15)
    for _ in range(20_000):
        for address in (IPv4Address(chosen.getrandbits(32)), IPv6Address(chosen.getrandbits(128))):
            assert address.is_global or not is_public(str(address)), address


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://8.8.8.8/", True),
        ("http://8.8.8.8/", True),
        ("http://8.8.8.8:443/", True),
        ("https://[2606:4700::1111]:8443/", True),
        ("http://8.8.8.8:8080/", True),
        ("http://8.8.8.8:22/", False),
        ("http://8.8.8.8:25/", False),
        ("https://8.8.8.8:6379/", False),
        ("https://8.8.8.8:27017/", False),
        ("http://[2606:4700::1111]:2375/", False),
        ("http://8.8.8.8:65535/", False),
    ],
)
async def test_only_the_ports_of_web_servers_are_allowed(settings, monkeypatch, url, allowed):
    """The check and each request decide alike. Nothing is connected."""
    reached = []

    async def connect(self: object, request: httpx2.Request) -> httpx2.Response:
        reached.append(str(request.url))
        return httpx2.Response(200)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", connect)
    async with open_public_client() as client:
        for ask in (check_target, client.get):
            if allowed:
                await ask(url)
            else:
                with pytest.raises(TargetRefused, match=r"^port \d+ is not allowed"):
                    await ask(url)
    assert reached == [url] * allowed


async def test_the_setting_names_the_ports(settings, monkeypatch):
    monkeypatch.setenv("OUTBOUND_PORTS", "[443, 9443]")
    get_settings.cache_clear()
    await check_target("https://8.8.8.8:9443/")
    with pytest.raises(TargetRefused, match=r"^port 80 is not allowed. Use one of 443, 9443$"):
        await check_target("http://8.8.8.8/")

    monkeypatch.setattr(get_settings(), "environment", "development")
    await check_target("http://127.0.0.1:12345/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "http://",
        "//example.com",
        "http://user:pw@8.8.8.8/",
        "file:///etc/passwd",
        "http://[::1",
        "",
    ],
)
async def test_an_invalid_url_is_refused(settings, url):
    with pytest.raises(TargetRefused):
        await check_target(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "nowhere.invalid",
    ],
)
async def test_this_machine_is_refused_under_each_of_its_names(settings, host):
    with pytest.raises(TargetRefused):
        await check_target(f"http://{host}/")
    async with open_public_client() as client:
        with pytest.raises(TargetRefused):
            await client.get(f"http://{host}/")


async def test_a_name_is_looked_up_once_for_each_request(settings, monkeypatch):
    """Two lookups could give a public address to the check, and this machine to the request."""
    asked, reached = [], []

    async def resolve(url: httpx2.URL) -> list[str]:
        asked.append(url.host)
        return ["192.0.2.1", "192.0.2.2"]

    async def connect(self: object, request: httpx2.Request) -> httpx2.Response:
        reached.append(request.url.host)
        if request.url.host == "192.0.2.1":
            raise httpx2.ConnectError("away")
        assert request.headers["host"] == "example.com"
        assert request.extensions["sni_hostname"] == "example.com"
        return httpx2.Response(302, headers={"location": "http://127.0.0.1/"})

    monkeypatch.setattr(targets, "_resolve", resolve)
    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", connect)
    async with open_public_client() as client:
        response = await client.get("https://example.com/hook")
    assert (asked, reached) == (["example.com"], ["192.0.2.1", "192.0.2.2"])
    assert str(response.url) == "https://example.com/hook"  # no redirect was followed


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["host"].encode())

    def log_message(self, format: str, *args: object) -> None: ...


def write_certificate(name: str, file: Path) -> None:
    """Write a private key and a certificate that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - day,
        not_valid_after=now + day,
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(params=["localhost", "another.example"])
def tls_server(request, tmp_path, monkeypatch) -> Iterator[tuple[str, str]]:
    """A server on this machine, with a certificate for one name. Clients trust its issuer."""
    file = tmp_path / "certificate.pem"
    write_certificate(request.param, file)
    trusting = ssl.create_default_context(cafile=file)
    monkeypatch.setattr(targets, "ssl_context", lambda: trusting)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield request.param, f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_the_certificate_must_be_that_of_the_name(settings, monkeypatch, tls_server):
    monkeypatch.setattr(get_settings(), "environment", "development")
    name, url = tls_server
    async with open_public_client() as client:
        if name == "localhost":
            response = await client.get(url)
            assert response.text == url.removeprefix("https://")
        else:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await client.get(url)


async def test_a_name_is_looked_up_as_it_is_written(settings, monkeypatch):
    """Python itself looks up fass.de, which is another domain."""
    asked: list[str] = []

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return []

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    await check_target("http://xn--fa-hia.de/")
    await check_target("http://faß.de/")
    assert asked == ["xn--fa-hia.de"] * 2


async def test_a_name_server_that_does_not_answer_is_not_waited_for(settings, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(targets, "RESOLVE_SECONDS", 0.1)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: released.wait(60))
    with pytest.raises(TargetRefused, match="cannot be found"):
        await check_target("http://slow.example/")
    released.set()


async def test_no_cookie_is_kept(settings, monkeypatch):
    async def answer(self: object, request: httpx2.Request) -> httpx2.Response:
        assert "cookie" not in request.headers
        return httpx2.Response(200, headers={"set-cookie": "mine=1"})

    async def resolve(url: httpx2.URL) -> list[str]:
        return ["192.0.2.1"]

    monkeypatch.setattr(targets, "_resolve", resolve)
    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    async with open_public_client() as client:
        for _ in range(2):
            await client.get("https://example.com/")
