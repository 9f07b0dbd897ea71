# paste: task-backends.md, Local Executor (Development)
