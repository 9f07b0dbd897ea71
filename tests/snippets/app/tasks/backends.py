import logging
import random
import time

from app.tasks.worker import worker
from core.tasks import TransientError, current_job

background = worker.task
logger = logging.getLogger(__name__)
steps: list[dict] = []
profiles: dict[int, dict] = {}


# Stand-ins.
def is_profile_updated(user_id: int, profile_data: dict) -> bool:
    return profiles.get(user_id) == profile_data


def apply_profile_update(user_id: int, profile_data: dict) -> dict:
    profiles[user_id] = profile_data
    return {"status": "updated"}


def process_data(data: dict) -> dict:
    if data.get("fail"):
        raise TransientError("not now")
    return data


def process_step_one(data: dict) -> dict:
    return {**data, "one": True}


def process_step_two(data: dict) -> dict:
    return {**data, "two": True}


def process_step_three(data: dict) -> dict:
    result = {**data, "three": True}
    steps.append(result)
    return result


@background
def update_user_profile(user_id: int, profile_data: dict):
    # Check if update was already applied
    if is_profile_updated(user_id, profile_data):
        return {"status": "already_updated"}

    # Apply update
    result = apply_profile_update(user_id, profile_data)
    return result


@background
def process_with_retry(data: dict, max_retries: int = 3):
    for attempt in range(max_retries + 1):
        try:
            return process_data(data)
        except TransientError as e:
            if attempt == max_retries:
                raise e

            # Exponential backoff
            wait_time = (2 ** attempt) + random.uniform(0, 1)
            time.sleep(wait_time)


@background
def step_one(data: dict):
    result = process_step_one(data)
    # Enqueue next step
    step_two.delay(result)
    return result

@background
def step_two(data: dict):
    result = process_step_two(data)
    # Enqueue final step
    step_three.delay(result)
    return result

@background
def step_three(data: dict):
    return process_step_three(data)


@background(max_retries=0)
def robust_task(data: dict):
    try:
        result = process_data(data)
        return result
    except Exception as e:
        logger.error(f"Task failed: {e}", exc_info=True)
        # Re-raise for retry logic
        raise


@background
def timed_task(data: dict):
    start_time = time.time()

    try:
        result = process_data(data)
        duration = time.time() - start_time
        # Record metrics
        return {**result, "duration": duration, "task_id": current_job().id}
    except Exception as e:
        duration = time.time() - start_time
        raise
