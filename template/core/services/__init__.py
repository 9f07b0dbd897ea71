"""Services for routes and tasks: accounts, files, mail, limits, webhooks and the audit log."""
