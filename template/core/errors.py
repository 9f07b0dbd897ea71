"""The root of the errors that people are meant to read."""

__all__ = ["UserError"]


class UserError(Exception):
    """Its message says what was wrong and what to do; a command line prints it without a traceback."""
