# paste: scheduled-tasks.md, Manual Registration
