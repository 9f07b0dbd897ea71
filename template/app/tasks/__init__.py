"""Your background jobs. See README.md beside this file."""

# Whichever task module is imported first, the worker and all the others are complete: without this line one task
# module could not use another one.
from . import worker  # noqa: F401
