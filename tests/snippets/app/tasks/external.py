import logging

from app.tasks.worker import worker
from core.tasks import PermanentError, TransientError, current_job


# Stand-ins.
async def external_api_call(data: str) -> str:
    if current_job().attempt == 1:
        raise ConnectionError("the external service does not answer")
    return data.upper()


class Data:
    @staticmethod
    async def get(data_id: str) -> str | None:
        return None if data_id == "missing" else data_id


async def process_data(data: str) -> str:
    if data == "bad":
        raise PermanentError("bad data")
    if data == "busy":
        raise TransientError("busy")
    return data


@worker.task()
async def fetch_external_data(url: str) -> dict:
    """Fetch data from external API."""

    # HTTP client is available in context
    http_client = worker.context.http_client

    response = await http_client.get(url)
    return response.json()


@worker.task(max_retries=3, retry_delay=0.01)
async def unreliable_task(data: str) -> dict:
    """Task that might fail and should retry."""
    try:
        # Do something that might fail
        result = await external_api_call(data)
        return {"status": "success", "data": result}
    except Exception as e:
        # Will automatically retry up to 3 times
        raise


logger = logging.getLogger(__name__)

@worker.task(max_retries=3, retry_delay=0.01)
async def risky_operation(data_id: str) -> dict:
    """Task that might fail."""
    try:
        # Fetch data
        data = await Data.get(data_id)
        if not data:
            logger.warning(f"Data not found: {data_id}")
            return {"status": "skipped", "reason": "not_found"}

        # Process
        result = await process_data(data)

        logger.info(f"Processed data: {data_id}")
        return {"status": "success", "result": result}

    except TransientError as e:
        # Retry on transient errors
        logger.error(f"Transient error processing {data_id}: {e}")
        raise  # Triggers retry

    except PermanentError as e:
        # Don't retry on permanent errors
        logger.error(f"Permanent error processing {data_id}: {e}")
        return {"status": "failed", "error": str(e)}
