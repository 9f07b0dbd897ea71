from app.pasted.pacificpy import PacificPy
from app.tasks.worker import worker

background = worker.task
app = PacificPy()
# paste: task-backends.md, 1. Long-Running Operations
