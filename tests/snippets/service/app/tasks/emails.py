# paste: app-tasks.md, Task Pattern

# paste: app-tasks.md, Email Notifications
