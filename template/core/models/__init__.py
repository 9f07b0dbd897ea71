"""The documents that the machinery itself needs."""

from core.models.blob import BlobModel
from core.models.dead_letter import DeadLetterModel, DeadLetterState
from core.models.outbox import OutboxModel
from core.models.run import RunModel
from core.models.schedule import ScheduleModel
from core.models.session import SessionModel
from core.models.user import UserModel

DOCUMENTS = (UserModel, SessionModel, DeadLetterModel, ScheduleModel, OutboxModel, RunModel, BlobModel)

__all__ = [
    "DOCUMENTS",
    "BlobModel",
    "DeadLetterModel",
    "DeadLetterState",
    "OutboxModel",
    "RunModel",
    "ScheduleModel",
    "SessionModel",
    "UserModel",
]
