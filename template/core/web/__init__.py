"""The web process."""

from core.web.auth import CurrentUser, current_user, sign_in
from core.web.factory import create_app

__all__ = ["CurrentUser", "create_app", "current_user", "sign_in"]
