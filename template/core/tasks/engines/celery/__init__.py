"""The engine `celery`: MongoDB keeps the jobs, and Celery delivers them, on Redis or RabbitMQ.

`python -m core worker` runs Celery's worker in its process. Celery's own command works too:
`celery -A core.tasks.engines.celery worker`. This module imports no Celery, so commands start fast.
"""

from core.config import Settings
from core.tasks.broker.broker import Broker
from core.tasks.broker.engine import BrokerEngine
from core.tasks.engines.celery.address import find_broker


def build(settings: Settings) -> BrokerEngine:
    """Build the engine that the settings describe.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: No broker is named, or Celery cannot use it.
    """
    address = find_broker(settings)

    def make_broker() -> Broker:
        from core.tasks.engines.celery.broker import CeleryBroker

        return CeleryBroker(settings, address)

    return BrokerEngine(settings, make_broker, has_priorities=not address.is_rabbitmq)


def run_worker(settings: Settings) -> int:
    """Run Celery's worker in this process until SIGINT or SIGTERM.

    Args:
        settings: The service's settings.

    Returns:
        The exit status.
    """
    from core.tasks.engines.celery.celery import run

    return run()
