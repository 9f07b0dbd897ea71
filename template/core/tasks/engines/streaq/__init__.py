"""The engine `streaq`, on Redis or Valkey streams. Jobs survive a crash of their worker.

The adapter uses the loops of streaq 7.2, but neither its client nor its scripts. It relies on
internals of streaq's `Worker`. A test fails if they change.
"""

from core.config import Settings, SettingsError
from core.tasks.engines.streaq.engine import StreaqEngine


def build(settings: Settings) -> StreaqEngine:
    """Build the engine that the settings describe.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: `REDIS_URL` is missing.
    """
    if settings.redis_url is None:
        raise SettingsError(
            "settings: REDIS_URL is missing: the job queue needs it (or set TASK_ENGINE=local)"
        )
    return StreaqEngine(
        str(settings.redis_url),
        settings.queue_name,
        settings.task_concurrency,
        settings.task_grace_period,
    )
