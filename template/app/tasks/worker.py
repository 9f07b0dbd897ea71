"""The worker. Import each task module here, because that is how the worker finds its tasks."""

from core.tasks.worker import worker

# Last, so that a task module can import `worker` from this one.
from . import cleanup, emails, processing, reports, webhooks
