from app.pasted.notes import note
from core.context import TaskContext
from core.logging import get_logger

logger = get_logger(__name__)


async def do_more_processing() -> None:
    note("more", TaskContext.get_correlation_id())


# paste: correlation-ids.md, Getting the Correlation ID Within a Task
