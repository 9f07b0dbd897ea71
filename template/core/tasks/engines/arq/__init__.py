"""The engine `arq`: MongoDB keeps the jobs, and arq delivers them. arq gets no new features.

`python -m core worker` runs arq's worker in its process. arq's own command works too:
`arq core.tasks.engines.arq.WorkerSettings`.
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
        SettingsError: `REDIS_URL` is missing, or arq cannot use it.
    """
    url = find_redis_url(settings, "arq")

    def make_broker() -> Broker:
        from core.tasks.engines.arq.broker import ArqBroker

        return ArqBroker(url, settings.queue_name, settings.task_concurrency)

    return BrokerEngine(settings, make_broker, has_priorities=True)


def __getattr__(name: str) -> Any:
    """Return the settings of the worker that the command `arq` starts.

    Raises:
        SystemExit: The worker cannot start; the message says why.
    """
    if name != "WorkerSettings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from core.tasks.broker.host import read_hosted_settings
    from core.tasks.engines.arq.working import make_hosted_settings

    try:
        settings = read_hosted_settings("arq")
        return make_hosted_settings(find_redis_url(settings, "arq"), settings)
    except UserError as error:
        sys.exit(str(error))
