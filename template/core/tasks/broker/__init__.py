"""The engine for Celery, streaq and arq: MongoDB keeps the jobs, a broker delivers their ids."""
