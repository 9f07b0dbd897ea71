import uuid

from app.pasted.notes import note
from app.tasks.worker import worker
from core.tasks import TransientError, current_job

background = worker.task
profiles: dict[int, dict] = {}
failed: set[str] = set()


def is_profile_updated(user_id: int, profile_data: dict) -> bool:
    return profiles.get(user_id) == profile_data


def apply_profile_update(user_id: int, profile_data: dict) -> dict:
    profiles[user_id] = profile_data
    return {"status": "updated"}


def process_data(data: dict) -> dict:
    """Fail in each first attempt, or in each first call of a job, if the data say so."""
    job = current_job()
    if data.get("fails") == "attempt" and job.attempt == 1:
        raise ConnectionError("not now")
    if data.get("fails") == "call" and job.id not in failed:
        failed.add(job.id)
        raise TransientError("not now")
    return data


def process_step_one(data: dict) -> dict:
    return {**data, "one": True}


def process_step_two(data: dict) -> dict:
    return {**data, "two": True}


def process_step_three(data: dict) -> dict:
    note("three", data)
    return {**data, "three": True}


def store_error(data: dict, error: str) -> None:
    note("stored", error)


def send_to_dlq(data: dict, error: str) -> None:
    note("dlq", error)


def record_metric(name: str, seconds: float) -> None:
    note("metric", name)


def chunk_list(data: list, size: int) -> list[list]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def process_chunk(chunk: list) -> None:
    note("chunk", len(chunk))


def fetch_user_data(user_id: int) -> dict:
    note("fetched", user_id)
    return {"id": user_id}


# paste: task-backends.md, 2. External API Calls

# paste: task-backends.md, 3. Data Processing

# paste: task-backends.md, 1. Idempotency

# paste: task-backends.md, 2. Retry Logic

# paste: task-backends.md, 3. Task Chaining

# paste: task-backends.md, Graceful Error Handling

# paste: task-backends.md, Dead Letter Queue

# paste: task-backends.md, Task Monitoring

# paste: task-backends.md, Metrics Collection

# paste: task-backends.md, 3. Resource Management

# paste: task-backends.md, 1. Task Size

# paste: task-backends.md, 2. Data Serialization

# paste: task-backends.md, 4. Security
