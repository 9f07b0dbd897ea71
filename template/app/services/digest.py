"""The link with which a user unsubscribes from the daily digest. It needs no log-in."""

from core.config import get_settings
from core.services.signatures import read_signed, sign

PURPOSE = "digest"


def unsubscribe_link(user_id: str) -> str:
    """Return a user's link.

    Args:
        user_id: The user's id.
    """
    token = sign(user_id, PURPOSE)
    # In the query, because the access log contains paths but no queries.
    return get_settings().link_to(f"digest?token={token}")


def read_token(token: str) -> str:
    """Return the id of the user to whom a link was sent.

    Args:
        token: The token in the link.

    Raises:
        InvalidSignature: The link is not valid.
    """
    return read_signed(token, PURPOSE)
