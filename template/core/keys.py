"""Keys made from SECRET_KEY: one for each purpose, so a signature for one never fits another."""

import hmac
from collections.abc import Sequence
from hashlib import sha256


def derive_keys(secrets: Sequence[str], purpose: str) -> list[bytes]:
    """Derive one key from each secret.

    Args:
        secrets: The secrets of `Settings.secret_keys`, the current one first.
        purpose: The purpose of the keys, such as `message`.

    Returns:
        Keys of 32 bytes, in the order of the secrets.
    """
    label = f"groundwork.{purpose}".encode()
    return [hmac.digest(secret.encode(), label, sha256) for secret in secrets]
