from app.tasks.worker import worker as app

# paste: task-backends.md, 3. Timeout Management
