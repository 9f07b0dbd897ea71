from app.pasted.notes import note
from core.context import TaskContext

request_data = "data"


async def process_request(data: str) -> None:
    note("request", data, TaskContext.get_correlation_id())


# paste: correlation-ids.md, Using an Explicit Correlation ID
