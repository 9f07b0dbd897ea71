"""Your background jobs. See README.md beside this file."""

from app.tasks.worker import worker

__all__ = ["worker"]
