"""The viewer of caught mail, with mails from the real SMTP server."""

import re
import smtplib
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import pytest

from core.tests.servers.changed_app import OpenClient
from core.tests.servers.local_pages import LOCAL
from core.web import mail_viewer

LIST = "/dev/mail"
HOSTILE = """<!doctype html><html><head><base href="http://evil.example/">
<meta http-equiv="refresh" content="0;url=http://evil.example/">
<script src="http://evil.example/x.js">alert(1)</script></head>
<body onload="alert(1)"><img src="http://evil.example/x.png" onerror="alert(1)">
<form action="http://evil.example/"><button>Send</button></form>
<a href="http://127.0.0.1/reset?token=abc">Reset</a></body></html>"""


@pytest.fixture
def client(open_client: OpenClient, mailbox, servers, monkeypatch):
    """A client of a service in development, whose caught mail is the one of this test."""
    monkeypatch.setattr(mail_viewer, "CAUGHT_MAIL", servers.mail)
    return open_client(environment="development", host=LOCAL)


@pytest.fixture
def send(settings):
    """Return a function that sends a mail to the SMTP server."""

    def send(mail: EmailMessage) -> None:
        with smtplib.SMTP(settings.smtp_url.host, settings.smtp_url.port) as server:
            server.send_message(mail)

    return send


def write_mail(subject: str = "Parcel", text: str = "Hello") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Shop <shop@example.com>"
    mail["To"] = "ada@example.com"
    mail["Subject"] = subject
    mail.set_content(text)
    return mail


async def find_keys(client) -> list[str]:
    page = await client.get(LIST)
    assert page.status_code == 200
    return re.findall(rf'href="{LIST}/([^"]+)"', page.text)


async def open_only(client) -> tuple[str, str]:
    (key,) = await find_keys(client)
    page = await client.get(f"{LIST}/{key}")
    assert page.status_code == 200
    return f"{LIST}/{key}", page.text


async def test_without_a_mail_the_page_says_how_one_gets_there(client):
    assert "No email yet." in (await client.get(LIST)).text


async def test_a_missing_folder_holds_no_mail(client, tmp_path, monkeypatch):
    monkeypatch.setattr(mail_viewer, "CAUGHT_MAIL", tmp_path / "none")
    assert await find_keys(client) == []
    assert "none yet" in (await client.get("/")).text


async def test_the_newest_mail_is_the_first(client, send):
    for number in range(3):
        send(write_mail(f"Parcel {number} – ünï <b>"))
    page = (await client.get(LIST)).text
    assert re.findall(r"Parcel (\d) – ünï &lt;b&gt;", page) == ["2", "1", "0"]
    assert "to ada@example.com" in page
    assert "3 emails" in (await client.get("/")).text


async def test_a_mail_shows_its_headers_and_its_text_with_links(client, send):
    mail = write_mail(text="<b>Open</b> https://127.0.0.1:8000/reset?token=a&b=1 now")
    mail["X-Own"] = "<script>"
    send(mail)
    _, page = await open_only(client)
    link = "https://127.0.0.1:8000/reset?token=a&amp;b=1"
    assert f'<a href="{link}" rel="noopener noreferrer" target="_blank">' in page
    assert "&lt;b&gt;Open" in page
    assert "Shop &lt;shop@example.com&gt;" in page
    assert "<dt>X-Own</dt><dd>&lt;script&gt;</dd>" in page
    assert "<script" not in page
    assert "<iframe" not in page


async def test_hostile_html_runs_and_loads_nothing(client, send):
    mail = write_mail()
    mail.add_alternative(HOSTILE, subtype="html")
    send(mail)
    path, page = await open_only(client)
    assert f'<iframe src="{path}/html" sandbox="allow-popups ' in page
    assert "allow-scripts" not in page
    assert "evil.example" not in page
    frame = await client.get(f"{path}/html")
    directives = dict(
        each.strip().partition(" ")[::2]
        for each in frame.headers["content-security-policy"].split(";")
    )
    assert directives == {
        "sandbox": "allow-popups allow-popups-to-escape-sandbox",
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    assert frame.headers["referrer-policy"] == "no-referrer"
    assert frame.headers["content-type"] == "text/html; charset=utf-8"
    # The first `base` decides where links open.
    assert frame.text.startswith('<!doctype html><base target="_blank"><html>')


async def test_a_mail_without_html_has_an_empty_frame(client, send):
    send(write_mail())
    path, _ = await open_only(client)
    assert (await client.get(f"{path}/html")).text == '<base target="_blank">'


@pytest.mark.parametrize(
    ("sent", "saved"),
    [
        ("invoice.pdf", "invoice.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("Rechnung – März.pdf", "Rechnung _ März.pdf"),
        ('a"; filename=b.exe', "a__ filename_b.exe"),
        ("..", "part-1"),
        ("/", "part-1"),
        ("x" * 300 + ".pdf", "x" * 96 + ".pdf"),
    ],
)
async def test_an_attachment_is_saved_under_a_safe_name(client, send, sent, saved):
    mail = write_mail()
    mail.add_attachment(b"<script>\x00", maintype="text", subtype="html", filename=sent)
    send(mail)
    path, page = await open_only(client)
    assert f'<a href="{path}/files/1" download>{saved}</a>' in page
    assert "<iframe" not in page
    response = await client.get(f"{path}/files/1")
    assert response.content == b"<script>\x00"
    expected = f"attachment; filename*=UTF-8''{quote(saved)}"
    assert response.headers["content-disposition"] == expected
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"
    for number in ("2", "-1", "99999999999999999999"):
        assert (await client.get(f"{path}/files/{number}")).status_code == 404


async def test_a_mail_is_saved_as_it_was_received(client, send):
    send(write_mail(text="as received"))
    path, _ = await open_only(client)
    response = await client.get(f"{path}/source")
    assert b"as received" in response.content
    assert response.headers["content-disposition"].startswith("attachment; ")
    assert response.headers["content-type"] == "message/rfc822"


NESTED = b"".join(
    b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(2000)
)
BROKEN = [
    b"",
    b"\n\n",
    b"no header at all",
    b"\x00\xff\xfe" * 1000,
    b"Subject: =?utf-8?b?!!!?= =?nonsense?q?=ff?=\n\nHello",
    b"Subject: \xff\xfe raw bytes\nTo: \x80\n\n\xff\xfe",
    b"Content-Type: text/plain; charset=nonsense\n\nHello \xff",
    b"Content-Type: text/plain; charset=unicode_escape\n\n\\ud800 \\x",
    b"Content-Type: text/html; charset=utf-16\n\nx",
    b"Content-Type: text/plain; charset*=nonsense''x\n\nx",
    b"Content-Transfer-Encoding: base64\n\n!!!!====",
    b"Content-Transfer-Encoding: x-uuencode\n\nbegin\n!!!!",
    b"Content-Type: multipart/mixed\n\nno boundary",
    b"Content-Type: multipart/mixed; boundary=a\n\n--a\n--a\n\n--a--\n--a",
    b"Content-Type: message/rfc822\n\nSubject: inner\n\nContent-Type: message/rfc822\n\n",
    b"Content-Disposition: attachment; filename*=utf-8''%ff%fe%00; filename*0=\n\nx",
    b"Content-Type: application/pdf; name*0*=nonsense''%ff; name*1=x\n\nx",
    b"From: <<<>>>\nTo: ,,,;:@\nDate: never\n\nHello",
    b"Subject: " + b"x" * 200_000 + b"\n\nHello",
    b"".join(b"X-%d: y\n" % n for n in range(20_000)) + b"\nHello",
    NESTED,
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
async def test_a_broken_mail_can_be_looked_at(client, tmp_path, monkeypatch, content):
    """The SMTP server would fix some of them, so the test writes them into the folder."""
    monkeypatch.setattr(mail_viewer, "CAUGHT_MAIL", tmp_path)
    store(tmp_path, "1795245832.M1P1Q1.host", content)
    path, page = await open_only(client)
    assert len(page) < 300_000
    assert (await client.get(f"{path}/html")).status_code == 200
    for link in re.findall(rf'href="({path}/files/\d+)"', page):
        assert (await client.get(link)).status_code == 200
    assert (await client.get(f"{path}/source")).content == content


def store(folder: Path, key: str, content: bytes) -> None:
    (folder / "new").mkdir(exist_ok=True)
    (folder / "new" / key).write_bytes(content)


async def test_a_huge_mail_is_shown_in_part(client, send):
    mail = write_mail(text="line\n" * 1_000_000)
    send(mail)
    path, page = await open_only(client)
    assert len(page) < 150_000
    assert "Only the start" in page
    assert len((await client.get(f"{path}/source")).content) > 5_000_000


async def test_of_thousands_of_mails_the_newest_are_listed(client, tmp_path, monkeypatch):
    monkeypatch.setattr(mail_viewer, "CAUGHT_MAIL", tmp_path)
    for number in range(3000):
        content = write_mail(f"Parcel {number}").as_bytes()
        store(tmp_path, f"1795245832.M{number}P1Q1.host", content)
    page = (await client.get(LIST)).text
    assert "The 100 newest of 3,000 emails" in page
    assert re.findall(r">Parcel (\d+)<", page) == [str(n) for n in range(2999, 2899, -1)]
    # An older mail keeps its address.
    oldest = await client.get(f"{LIST}/1795245832.M0P1Q1.host")
    assert "Parcel 0" in oldest.text


@pytest.mark.parametrize(
    "key",
    [
        "..",
        ".",
        "%2e%2e",
        "..%2fsecret",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "new%2f1795245832.M1P1Q1.host",
        "..%5csecret",
        "1795245832.M1P1Q1.host%00",
        "*",
        "nowhere",
    ],
)
async def test_an_id_is_no_path(client, tmp_path, monkeypatch, key):
    monkeypatch.setattr(mail_viewer, "CAUGHT_MAIL", tmp_path)
    store(tmp_path, "1795245832.M1P1Q1.host", b"Subject: x\n\nx")
    (tmp_path / "secret").write_text("secret")
    for end in ("", "/html", "/source", "/files/0"):
        response = await client.get(f"{LIST}/{key}{end}")
        if response.status_code == 200:
            assert "Caught mail" in response.text
            assert "secret" not in response.text
        else:
            assert response.status_code in (307, 404)
