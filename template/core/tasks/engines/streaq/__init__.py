"""The engine `streaq`: MongoDB keeps the jobs, and streaq delivers them.

`python -m core worker` runs streaq's worker in its process. streaq's own command works too:
`streaq run core.tasks.engines.streaq:worker`.
"""

import sys
from typing import Any

from core.config import Settings
from core.errors import UserError
from core.tasks.broker.address import find_redis_url
from core.tasks.broker.broker import Broker
from core.tasks.broker.engine import BrokerEngine


def build(settings: Settings) -> BrokerEngine:
    """Build the engine that the settings describe.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: `REDIS_URL` is missing, or streaq cannot use it.
    """
    url = find_redis_url(settings, "streaq")

    def make_broker() -> Broker:
        from core.tasks.engines.streaq.broker import StreaqBroker

        return StreaqBroker(url, settings.queue_name, settings.task_concurrency)

    return BrokerEngine(settings, make_broker, has_priorities=True)


def __getattr__(name: str) -> Any:
    """Return the worker that `streaq run` starts.

    Raises:
        SystemExit: The worker cannot start; the message says why.
    """
    if name != "worker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from core.tasks.broker.host import read_hosted_settings
    from core.tasks.engines.streaq.working import make_hosted_worker

    try:
        settings = read_hosted_settings("streaq")
        return make_hosted_worker(find_redis_url(settings, "streaq"), settings)
    except UserError as error:
        sys.exit(str(error))
