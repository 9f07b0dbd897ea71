from app.tasks.worker import worker
from core.tasks import PermanentError, TransientError, current_job


async def external_api_call(data: str) -> str:
    if current_job().attempt == 1:
        raise ConnectionError("the external API does not answer")
    return data.upper()


class Data:
    @staticmethod
    async def get(data_id: str) -> str | None:
        return None if data_id == "missing" else data_id


async def process_data(data: str) -> str:
    if data == "bad":
        raise PermanentError("bad data")
    if data == "busy" and current_job().attempt == 1:
        raise TransientError("busy")
    return data.upper()


# paste: app-tasks.md, Task Context

# paste: app-tasks.md, Retries

# paste: app-tasks.md, Error Handling
