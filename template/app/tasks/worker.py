"""The worker: a task exists once its module is imported here."""

from core.tasks.worker import worker

__all__ = ["worker"]

# At the end, since these modules import `worker` from this one.
from . import cleanup, emails, processing, reports, webhooks
