"""The engine `redis`, on the streams of Redis or Valkey. Jobs survive a crash of their worker."""

from core.config import Settings, SettingsError
from core.tasks.engines.redis.engine import RedisEngine


def build(settings: Settings) -> RedisEngine:
    """Build the engine that the settings describe.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: `REDIS_URL` is missing, or has a wrong option.
    """
    if settings.redis_url is None:
        raise SettingsError(
            "settings: REDIS_URL is missing: the job queue needs it (or set TASK_ENGINE=local)"
        )
    try:
        return RedisEngine(
            str(settings.redis_url),
            settings.queue_name,
            settings.task_concurrency,
            settings.task_grace_period,
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(f"settings: REDIS_URL has a wrong option: {error}") from None
