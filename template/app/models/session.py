"""Sessions of users who are logged in. `core/` starts and ends them."""

from core.models import SessionModel as Session

__all__ = ["Session"]
