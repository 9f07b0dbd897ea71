"""The Redis or Valkey server that carries the tickets of streaq and arq."""

from collections.abc import Mapping

from core.tasks.errors import REFUSALS, QueueRefuses, QueueUnavailable

OPERATION_SECONDS = 3.0
"""A server that takes longer for a call counts as down."""
CHECK_SECONDS = 60
"""How long the server keeps the key that a check writes."""


def check_host_name(url: str) -> str:
    """Return a URL with which the client checks the host's name in the server's certificate.

    Args:
        url: The URL of the server. If it has the option `ssl_check_hostname`, it is unchanged.
    """
    if not url.startswith("rediss:") or "ssl_check_hostname" in url:
        return url
    return url + ("&" if "?" in url else "?") + "ssl_check_hostname=true"


def explain(
    place: str,
    error: BaseException,
    codes: Mapping[type[Exception], str],
) -> QueueUnavailable:
    """Return the error of this service for an error of a client.

    Args:
        place: The server, for people.
        error: The error. In a group, the first error counts.
        codes: The codes of errors whose text lacks the code.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error).rpartition("caused error: ")[2]  # a pipeline puts its command before the text
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), text)
    for known, meaning in REFUSALS.items():
        if code.startswith(known):
            return QueueRefuses(place, meaning)
    if isinstance(error, TimeoutError):
        return QueueUnavailable(f"{place} did not answer within {OPERATION_SECONDS:g} s")
    return QueueUnavailable(f"{place} cannot be used: {text or type(error).__name__}")
