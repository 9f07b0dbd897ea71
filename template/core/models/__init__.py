"""The documents that the machinery itself needs."""

from core.models.session import SessionModel
from core.models.user import UserModel

DOCUMENTS = (UserModel, SessionModel)

__all__ = ["DOCUMENTS", "SessionModel", "UserModel"]
