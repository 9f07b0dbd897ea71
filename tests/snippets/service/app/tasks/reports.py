from app.tasks.worker import worker
# paste: app-tasks.md, Report Generation
