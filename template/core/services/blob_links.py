"""Signed links to blobs, which expire."""

import time

from itsdangerous import BadSignature

from core.services.signatures import make_serializer

PURPOSE = "blob"


class InvalidLink(Exception):
    """A link was not signed by this service."""


class LinkExpired(Exception):
    """A link has expired."""


def sign_link(blob_id: str, seconds: float) -> str:
    """Return a token for a link that expires.

    Args:
        blob_id: The blob's id.
        seconds: Seconds for which the link is valid.
    """
    expires = round(time.time() + seconds)
    token = make_serializer(PURPOSE).dumps([blob_id, expires])
    return str(token)


def read_link(token: str) -> str:
    """Return the id of the blob that a link opens.

    Args:
        token: The token from `sign_link`.

    Raises:
        InvalidLink: The link was not signed by this service.
        LinkExpired: The link has expired.
    """
    try:
        blob_id, expires = make_serializer(PURPOSE).loads(token)
    except BadSignature:
        raise InvalidLink(token) from None
    if time.time() > expires:
        raise LinkExpired(blob_id)
    return str(blob_id)
