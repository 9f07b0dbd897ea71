"""The documents of `core`."""

from core.models.alert import AlertCheckModel as AlertCheckModel
from core.models.alert import AlertModel
from core.models.audit import AuditModel
from core.models.blob import BlobModel
from core.models.dead_letter import DeadLetterModel, DeadLetterState
from core.models.email_token import EmailTokenModel
from core.models.migration import MigrationLockModel as MigrationLockModel
from core.models.migration import MigrationModel as MigrationModel
from core.models.minute import MinuteModel as MinuteModel
from core.models.outbox import OutboxModel as OutboxModel
from core.models.run import RunModel
from core.models.schedule import ScheduleModel as ScheduleModel
from core.models.session import SessionModel
from core.models.user import UserModel
from core.models.worker import RunningJob, WorkerModel

DOCUMENTS = (
    UserModel,
    SessionModel,
    EmailTokenModel,
    AuditModel,
    BlobModel,
    DeadLetterModel,
    ScheduleModel,
    OutboxModel,
    RunModel,
    MinuteModel,
    WorkerModel,
    AlertModel,
    AlertCheckModel,
    MigrationModel,
    MigrationLockModel,
)

__all__ = [
    "AlertModel",
    "AuditModel",
    "BlobModel",
    "DeadLetterModel",
    "DeadLetterState",
    "EmailTokenModel",
    "RunModel",
    "RunningJob",
    "SessionModel",
    "UserModel",
    "WorkerModel",
]
