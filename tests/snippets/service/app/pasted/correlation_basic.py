from app.pasted.notes import note
from core.context import TaskContext

data_item = "item"


async def compute_result(data: str) -> str:
    return data.upper()


async def save_result(result: str) -> None:
    note("saved", result, TaskContext.get_correlation_id())


# paste: correlation-ids.md, Basic Usage
