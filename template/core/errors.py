"""The base class of errors whose messages are for users."""

__all__ = ["UserError"]


class UserError(Exception):
    """An error that a user can fix. Command lines print its message without a traceback."""
