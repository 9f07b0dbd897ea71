def create_user_in_database(data: dict) -> int:
    return 7


# paste: task-backends.md, Example Implementation
