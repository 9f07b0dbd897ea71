"""Your background jobs. README.md in this folder explains how to write one."""

from app.tasks.worker import worker

__all__ = ["worker"]
