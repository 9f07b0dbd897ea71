from app.pasted.notes import note

important_data = "important"


async def risky_operation(data: str) -> None:
    raise ValueError(data)


async def notify_admin(text: str) -> None:
    note("admin", text)


# paste: correlation-ids.md, Error Handling
