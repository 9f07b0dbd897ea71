"""Signed values, for links that work without a session."""

from hashlib import sha256

from itsdangerous import BadSignature, URLSafeSerializer

from core.config import get_settings
from core.keys import derive_keys

__all__ = ["InvalidSignature", "read_signed", "sign"]


class InvalidSignature(Exception):
    """A value was not signed by this service for this purpose."""


def sign(value: str, purpose: str) -> str:
    """Return a token that contains a value and its signature. It does not expire.

    The value is not encrypted. The token is safe in URLs.

    Args:
        value: The value, such as a user's id.
        purpose: The only purpose for which the token is valid, such as `digest`.
    """
    return str(make_serializer(f"signed.{purpose}").dumps(value))


def read_signed(token: str, purpose: str) -> str:
    """Return the value in a token.

    After a change of SECRET_KEY, tokens stay valid while the former key is SECRET_KEY_PREVIOUS.

    Args:
        token: The token from `sign`.
        purpose: The purpose for which the token was signed.

    Raises:
        InvalidSignature: The token was not signed by this service for this purpose.
    """
    try:
        return str(make_serializer(f"signed.{purpose}").loads(token))
    except (BadSignature, UnicodeEncodeError):
        raise InvalidSignature(purpose) from None


def make_serializer(purpose: str) -> URLSafeSerializer:
    """Return a serializer that signs with the keys of one purpose.

    Args:
        purpose: The purpose of the keys.
    """
    keys = derive_keys(get_settings().secret_keys, purpose)
    # itsdangerous signs with the last key. By default it signs with SHA-1, as earlier versions of
    # core did. Mails may still contain such tokens.
    return URLSafeSerializer(
        keys[::-1],
        signer_kwargs={"digest_method": sha256},
        fallback_signers=[{}],
    )
