"""Sensitive arguments: encrypted wherever they are stored, masked wherever they are shown."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from core.keys import derive_keys
from core.tasks.errors import PermanentError

T = TypeVar("T")

MIN_MASKED_LENGTH = 4
"""Shorter texts are not masked: they would mask innocent text too."""


class _Mark:
    """Marks the JSON schema, so the mark is found however deep in a model it is."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "sensitive": True}


Sensitive = Annotated[T, _Mark()]
"""Marks a task's parameter, or a field of a model, as sensitive: `token: Sensitive[str]`."""


def is_sensitive(annotation: Any) -> bool:
    """Return whether a type holds something sensitive."""
    schema = to_json(TypeAdapter(annotation).json_schema())
    return b'"sensitive":true' in schema


class Cipher:
    """Encrypts values.

    Args:
        secrets: The secrets of `Settings.secret_keys`. The first one encrypts; all decrypt.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        keys = derive_keys(secrets, "sensitive")
        self._fernet = MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])

    def encrypt(self, value: Any) -> str:
        """Return plain JSON data as an encrypted text."""
        return self._fernet.encrypt(to_json(value)).decode()

    def decrypt(self, encrypted: str) -> Any:
        """Return the data that `encrypt` was given.

        Args:
            encrypted: The text that `encrypt` returned.

        Raises:
            PermanentError: The data was encrypted with another key.
        """
        try:
            return from_json(self._fernet.decrypt(encrypted))
        except InvalidToken:
            hint = "was SECRET_KEY changed without SECRET_KEY_PREVIOUS?"
            raise PermanentError(f"a sensitive argument cannot be decrypted; {hint}") from None


def find_texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value that logs must not show."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from find_texts(key)
            yield from find_texts(inner)
    elif isinstance(value, bytes):
        yield repr(value)[2:-1]
        yield value.decode(errors="replace")
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from find_texts(inner)
    elif not isinstance(value, bool | None) and len(str(value)) >= MIN_MASKED_LENGTH:
        yield str(value)
