"""Random tokens that give access. Only their hashes are stored."""

import hashlib
import secrets


def new_token() -> str:
    """Return a token with 256 random bits, safe for URLs and cookies."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the hash of a token, for the database.

    A token is long and random, so a fast hash without a salt is safe.

    Args:
        token: The token from `new_token`.
    """
    return hashlib.sha256(token.encode()).hexdigest()
