"""Sensitive arguments: encrypted wherever they are kept, masked wherever they are shown."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated, Any, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from core.tasks.errors import PermanentError

T = TypeVar("T")

SHORTEST = 4
"""Characters from which a text is looked for in logs: a shorter one would mask what only looks like it."""


class _Mark:
    """Found again in the JSON schema, however deep in a model the annotation stands."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "sensitive": True}


Sensitive = Annotated[T, _Mark()]
"""Marks a task's parameter, or a field of a model: `token: Sensitive[str]`."""


def is_sensitive(annotation: Any) -> bool:
    """Whether a parameter of this type holds something sensitive."""
    return '"sensitive":true' in to_json(TypeAdapter(annotation).json_schema()).decode()


class Cipher:
    """Encrypts values.

    Args:
        secret: Encrypts, and decrypts.
        previous: Decrypts as well, while values encrypted with it may still be kept.
    """

    def __init__(self, secret: str, previous: str | None = None) -> None:
        # A key of its own purpose, as for signatures.
        keys = [hmac.digest(key.encode(), b"groundwork.sensitive", sha256) for key in (secret, previous) if key]
        self._fernet = MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])

    def seal(self, value: Any) -> str:
        """Plain JSON data as an encrypted text."""
        return self._fernet.encrypt(to_json(value)).decode()

    def open(self, sealed: str) -> Any:
        """Read it back.

        Raises:
            PermanentError: It was encrypted with another key.
        """
        try:
            return from_json(self._fernet.decrypt(sealed))
        except InvalidToken:
            reason = "was SECRET_KEY changed without SECRET_KEY_PREVIOUS?"
            raise PermanentError(f"a sensitive argument cannot be decrypted; {reason}") from None


def texts(value: Any) -> Iterator[str]:
    """The texts in a value that a log must not show."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, bytes):
        yield from (repr(value)[2:-1], value.decode(errors="replace"))
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from texts(inner)
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= SHORTEST:
        yield str(value)
