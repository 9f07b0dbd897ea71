"""The engine `streaq`, on Redis or Valkey streams. Jobs survive the crash of any worker or machine.

The adapter works around some behaviour of streaq 7.2; comments say where. It relies on parts of
streaq that are not documented: `Worker.signal_handler`, `Worker._cancel_scopes` and
`Worker.run_task`. A test fails if they change.
"""

from core.config import Settings, SettingsError
from core.tasks.engines.streaq.engine import StreaqEngine


def build(settings: Settings) -> StreaqEngine:
    """The engine that these settings describe.

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
