"""The worker: a task exists once its module is imported here."""

from core.tasks.worker import worker

# At the end, since these modules import `worker` from this one.
from . import emails  # noqa: F401

__all__ = ["worker"]
