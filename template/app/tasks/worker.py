"""The worker. Import each task module here: a task exists once its module is imported."""

from core.tasks.worker import worker

# Last, so that a task module may import `worker` from this one.
from . import cleanup, emails, processing, reports, webhooks
