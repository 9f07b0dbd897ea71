"""Requests that the pages for a browser on this machine answer, and requests that they refuse."""

LOCAL = "localhost:8000"
ANSWERED = [
    ("127.0.0.1", {}),
    ("::1", {"Host": "[::1]:8000"}),
    ("::ffff:127.0.0.1", {"Host": "LOCALHOST"}),
    ("127.0.0.1", {"Host": "127.0.0.1:8000"}),
    ("127.0.0.1", {"Origin": "http://localhost:8000"}),
]
REFUSED = [
    ("192.168.1.7", {}),
    ("10.0.0.1", {"Host": "127.0.0.1"}),
    ("2001:db8::1", {}),
    ("", {}),
    ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
    ("127.0.0.1", {"X-Forwarded-Host": "localhost"}),
    ("127.0.0.1", {"X-Forwarded-Proto": "http"}),
    ("127.0.0.1", {"X-Forwarded-Anything": ""}),
    ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
    ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}),
    ("127.0.0.1", {"Via": "1.1 proxy"}),
    # A page on another site, which CORS of the service may allow to read the answer.
    ("127.0.0.1", {"Origin": "https://evil.example"}),
    ("127.0.0.1", {"Origin": "http://localhost:5173"}),
    ("127.0.0.1", {"Origin": "null"}),
    # The name of a page on another site may point here (DNS rebinding).
    ("127.0.0.1", {"Host": "evil.example"}),
    ("127.0.0.1", {"Host": "localhost.evil.example"}),
    ("127.0.0.1", {"Host": "127.0.0.1.evil.example:8000"}),
    ("127.0.0.1", {"Host": "evil.example@localhost"}),
    ("127.0.0.1", {"Host": "localhost:80:80"}),
    ("127.0.0.1", {"Host": "localhost:٣"}),
    ("127.0.0.1", {"Host": "127.0.0.2"}),
    ("127.0.0.1", {"Host": ""}),
]


def encode(headers: dict[str, str]) -> dict[str, bytes]:
    """Return headers that may hold any character."""
    return {name: value.encode() for name, value in headers.items()}
