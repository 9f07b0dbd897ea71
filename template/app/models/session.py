"""Sessions, which the machinery keeps."""

from core.models import SessionModel as Session

__all__ = ["Session"]
