"""The worker: a task exists once its module is imported here."""

from core.tasks.worker import worker

# At the end, since these modules import `worker` from this one.

__all__ = ["worker"]
