"""What travels through the queue: JSON, versioned and signed. Never pickle."""

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from core.tasks.errors import BadMessage

VERSION = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One job, as it was enqueued.

    Attributes:
        id: The job's id.
        task: The task's registered name.
        arguments: By parameter name, as plain JSON data; those that are sensitive are encrypted texts.
        sensitive: The names of these.
        correlation_id: The id that the enqueueing code carried.
        owner: The id of the user who enqueued it, or None.
        enqueued_at: Seconds since 1970.
        expires_at: Seconds since 1970 after which it must not start any more, or None.
        schedule: The schedule that it belongs to, or None.
        chain: The chain that it is a stage of, or None.
        stage: Its place in the chain, from 0.
        rest: The names of the tasks that follow in the chain.
        v: The version of this form.
    """

    id: str
    task: str
    arguments: dict[str, Any]
    correlation_id: str
    owner: str | None
    enqueued_at: float
    sensitive: list[str] = field(default_factory=list)
    expires_at: float | None = None
    schedule: str | None = None
    chain: str | None = None
    stage: int = 0
    rest: list[str] = field(default_factory=list)
    v: int = VERSION


_MESSAGE = TypeAdapter(Message)


class Signer:
    """Turns messages into signed bytes and back.

    Args:
        secret: Signs, and is accepted.
        previous: Accepted as well, while messages signed with it may still be in the queue.
    """

    def __init__(self, secret: str, previous: str | None = None) -> None:
        # A key of its own purpose, so that no other signature made with the secret is ever a valid message.
        self._keys = [hmac.digest(key.encode(), b"groundwork.message", sha256) for key in (secret, previous) if key]

    def dump(self, message: Message) -> bytes:
        """The message as bytes: the signature in hexadecimal, a dot, the JSON."""
        payload = _MESSAGE.dump_json(message)
        return hmac.digest(self._keys[0], payload, sha256).hex().encode() + b"." + payload

    def load(self, body: bytes) -> Message:
        """Read a message back.

        Raises:
            BadMessage: It is not ours, was altered, or has a form that this version does not know.
        """
        signature, _, payload = body.partition(b".")
        if not any(
            hmac.compare_digest(hmac.digest(key, payload, sha256).hex().encode(), signature) for key in self._keys
        ):
            raise BadMessage("its signature is not ours; was SECRET_KEY changed without SECRET_KEY_PREVIOUS?")
        try:
            version = from_json(payload)["v"]
            if version != VERSION:
                raise BadMessage(f"it has version {version}, and this worker reads version {VERSION}")
            return _MESSAGE.validate_json(payload, strict=True)
        except (ValueError, TypeError, LookupError) as error:
            raise BadMessage(f"it cannot be read: {str(error).splitlines()[0]}") from None
