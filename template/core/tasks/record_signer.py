"""Signatures of records, so only holders of SECRET_KEY can say whose a job is and what it returned.

Who knows the password of the queue's server can write records, but cannot sign them.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from core.keys import derive_keys

SIGNATURE_BYTES = 18
"""144 bits of the HMAC, which are 24 characters. Redis stores values above 64 bytes less compactly."""


class RecordSigner:
    """Signs the fields of records that grant access, and the holders of unique keys.

    Args:
        secrets: The secrets of `Settings.secret_keys`. The first one signs; all are accepted.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = derive_keys(secrets, "record")

    def sign(self, *values: Any) -> str:
        """Return the signature of some values.

        Args:
            *values: Plain JSON data. Lists of values with different lengths never have the same
                signature.
        """
        return _sign(self._keys[0], values)

    def accepts(self, signature: Any, *values: Any) -> bool:
        """Return whether one of the keys signed these values.

        Args:
            signature: The signature as it was read. A forged one may have any type.
            *values: Plain JSON data.
        """
        given = str(signature).encode(errors="replace")
        return any(hmac.compare_digest(given, _sign(key, values).encode()) for key in self._keys)


def _sign(key: bytes, values: tuple[Any, ...]) -> str:
    # The same text before and after the values were stored as JSON.
    text = json.dumps(values)
    digest = hmac.digest(key, text.encode(), sha256)
    return b64encode(digest[:SIGNATURE_BYTES]).decode()
