from app.pasted.pacificpy import configure_background_tasks

# paste: task-backends.md, ARQ (Async-First)
