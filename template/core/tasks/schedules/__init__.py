"""Schedules: declared in code, stored in MongoDB, and fired by the first worker that is ready."""
