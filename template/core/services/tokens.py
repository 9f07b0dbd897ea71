"""Tokens that let somebody in: random, and stored as a hash only, so that the database alone lets nobody in."""

import hashlib
import secrets


def new_token() -> str:
    """A token with 256 random bits, fit for URLs and cookies."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is stored of a token. It is random and long, so that a plain hash cannot be guessed back."""
    return hashlib.sha256(token.encode()).hexdigest()
