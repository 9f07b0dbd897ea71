"""The web process."""

from core.web.auth import CurrentUser, current_user, sign_in
from core.web.factory import create_app
from core.web.jobs import JobView, view_job

__all__ = ["CurrentUser", "JobView", "create_app", "current_user", "sign_in", "view_job"]
