"""Messages, the form in which jobs travel: JSON, versioned and signed. Never pickle."""

import hmac
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from core.keys import derive_keys
from core.tasks.errors import BadMessage

VERSION = 1
SIGNATURE_BYTES = 16
RECORD_SIGNATURE_BYTES = 15
"""Short, because the server keeps one for each job. A forger must try up to 2**120, online."""
WRONG_SIGNATURE = "the signature is not ours; was SECRET_KEY changed without SECRET_KEY_PREVIOUS?"

PlainArguments = dict[str, Any]
"""The arguments of a job by parameter name, as plain JSON data."""


@dataclass(frozen=True, slots=True)
class Message:
    """One job, as it was enqueued.

    Attributes:
        id: The job's id.
        task: The task's registered name.
        arguments: The arguments. Sensitive ones are encrypted texts.
        sensitive: The names of the sensitive arguments.
        correlation_id: The correlation id of the code that enqueued the job.
        owner: The id of the user who enqueued the job, or None.
        enqueued_at: Seconds since 1970.
        due_at: The time before which the job must not start, in seconds since 1970, or None.
        expires_at: The time after which the job must not start, in seconds since 1970, or None.
        schedule: The schedule that enqueued the job, or None.
        chain: The id of the chain that the job is a stage of, or None.
        stage: The stage's place in the chain, from 0.
        rest: The names of the tasks that follow in the chain.
        traceparent: The span of the code that enqueued the job (W3C Trace Context), or None.
        replayed: The span of the failed run that the job replays, or None.
        v: The version of this format.
    """

    id: str
    task: str
    correlation_id: str
    enqueued_at: float
    arguments: PlainArguments = field(default_factory=dict)
    owner: str | None = None
    sensitive: list[str] = field(default_factory=list)
    due_at: float | None = None
    expires_at: float | None = None
    schedule: str | None = None
    chain: str | None = None
    stage: int = 0
    rest: list[str] = field(default_factory=list)
    traceparent: str | None = None
    replayed: str | None = None
    v: int = VERSION


_MESSAGE = TypeAdapter(Message)


class Signer:
    """Turns messages into signed bytes and back, and signs values of records.

    The signatures are keyed BLAKE2b (RFC 7693). The signature of a message covers the job's id,
    which the engine keeps next to the message.

    Args:
        secrets: The secrets of `Settings.secret_keys`. The first one signs; all are accepted.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = derive_keys(secrets, "message")
        self._record_keys = derive_keys(secrets, "record")

    def dump(self, message: Message) -> bytes:
        """Return a message as bytes: the signature, and the values other than defaults as JSON."""
        left_out = {"id", "correlation_id"} if message.correlation_id == message.id else {"id"}
        payload = _MESSAGE.dump_json(message, exclude=left_out, exclude_defaults=True)
        return _sign(self._keys[0], message.id, payload) + payload

    def load(self, job_id: str, body: bytes) -> Message:
        """Read the message of a job back.

        Args:
            job_id: The job's id.
            body: The bytes that `dump` returned.

        Raises:
            BadMessage: The signature is wrong, or this version cannot read the message.
        """
        signature, payload = body[:SIGNATURE_BYTES], body[SIGNATURE_BYTES:]
        # A generator, because the first key usually fits.
        expected = (_sign(key, job_id, payload) for key in self._keys)
        if not any(hmac.compare_digest(each, signature) for each in expected):
            raise BadMessage(WRONG_SIGNATURE)
        return read_unverified(job_id, body)

    def sign(self, *values: Any) -> str:
        """Return a signature of some values of a record.

        Args:
            *values: Plain JSON data. Each kind of record has its own number of values.
        """
        return _sign_values(self._record_keys[0], values)

    def accepts(self, signature: Any, *values: Any) -> bool:
        """Return whether one of our keys signed these values.

        Args:
            signature: The signature that was read. A forged one may have any type.
            *values: Plain JSON data.
        """
        given = str(signature).encode(errors="replace")
        expected = (_sign_values(key, values).encode() for key in self._record_keys)
        return any(hmac.compare_digest(each, given) for each in expected)


def read_unverified(job_id: str, body: bytes) -> Message:
    """Read a message without checking its signature. It may be forged.

    Args:
        job_id: The job's id.
        body: The message's bytes.

    Raises:
        BadMessage: This version cannot read the message.
    """
    payload = body[SIGNATURE_BYTES:]
    try:
        # If the JSON has a name twice, its last value counts.
        name = to_json(job_id)
        text = b'{"id":%b,"correlation_id":%b,%b' % (name, name, payload[1:])
        if b'"v":' in payload:  # otherwise it is version 1
            _check_version(payload)
        return _MESSAGE.validate_json(text, strict=True)
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise BadMessage(f"the message cannot be read: {reason}") from None


def _check_version(payload: bytes) -> None:
    version = from_json(payload).get("v", VERSION)
    if version != VERSION:
        known = f"this worker reads version {VERSION}"
        raise BadMessage(f"the message has version {version}, and {known}")


def _sign_values(key: bytes, values: tuple[Any, ...]) -> str:
    # The text is the same for data that was stored as JSON and read again.
    mac = blake2b(to_json(values), key=key, digest_size=RECORD_SIGNATURE_BYTES)
    return b64encode(mac.digest()).decode()


def _sign(key: bytes, job_id: str, payload: bytes) -> bytes:
    name = job_id.encode(errors="surrogatepass")
    mac = blake2b(len(name).to_bytes(4, "big"), key=key, digest_size=SIGNATURE_BYTES)
    mac.update(name)
    mac.update(payload)
    return mac.digest()
