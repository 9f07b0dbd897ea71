"""The engine `streaq`: Redis or Valkey streams. Jobs survive crashes of workers; any number of machines.

How streaq 7.2 behaves at its edges, and what this adapter does about it, is written where it does so. Beyond its
documented API it relies on `Worker.signal_handler`, `Worker._cancel_scopes` and `Worker.publish_task`;
`core/tests/test_streaq.py` fails when these change.
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
