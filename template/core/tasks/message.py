"""Messages, the form in which jobs travel: JSON, versioned and signed. Never pickle."""

import hmac
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from core.keys import derive_keys
from core.tasks.errors import BadMessage

VERSION = 1
RECORD_SIGNATURE_BYTES = 18
"""144 bits of the HMAC. Redis stores a record compactly if no value is longer than 64 bytes."""
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
        v: The version of this format.
    """

    id: str
    task: str
    arguments: PlainArguments
    correlation_id: str
    owner: str | None
    enqueued_at: float
    sensitive: list[str] = field(default_factory=list)
    due_at: float | None = None
    expires_at: float | None = None
    schedule: str | None = None
    chain: str | None = None
    stage: int = 0
    rest: list[str] = field(default_factory=list)
    v: int = VERSION


_MESSAGE = TypeAdapter(Message)


class Signer:
    """Turns messages into signed bytes and back, and signs values of records.

    Args:
        secrets: The secrets of `Settings.secret_keys`. The first one signs; all are accepted.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = derive_keys(secrets, "message")
        self._record_keys = derive_keys(secrets, "record")

    def dump(self, message: Message) -> bytes:
        """Return a message as bytes: the signature in hexadecimal, a dot, and the JSON."""
        payload = _MESSAGE.dump_json(message)
        signature = _sign(self._keys[0], payload)
        return signature + b"." + payload

    def load(self, body: bytes) -> Message:
        """Read a message back.

        Args:
            body: The bytes that `dump` returned.

        Raises:
            BadMessage: The signature is wrong, or this version cannot read the message.
        """
        signature, _, payload = body.partition(b".")
        expected = [_sign(key, payload) for key in self._keys]
        if not any(hmac.compare_digest(each, signature) for each in expected):
            raise BadMessage(WRONG_SIGNATURE)
        try:
            version = from_json(payload)["v"]
            if version != VERSION:
                known = f"this worker reads version {VERSION}"
                raise BadMessage(f"the message has version {version}, and {known}")
            return _MESSAGE.validate_json(payload, strict=True)
        except (ValueError, TypeError, LookupError) as error:
            reason = str(error).splitlines()[0]
            raise BadMessage(f"the message cannot be read: {reason}") from None

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
        expected = [_sign_values(key, values).encode() for key in self._record_keys]
        return any(hmac.compare_digest(each, given) for each in expected)


def _sign_values(key: bytes, values: tuple[Any, ...]) -> str:
    # `json` returns the same text for data that was stored as JSON and read again.
    digest = hmac.digest(key, json.dumps(values).encode(), sha256)
    return b64encode(digest[:RECORD_SIGNATURE_BYTES]).decode()


def _sign(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, sha256).hex().encode()
