"""Warnings about the queue's server: nearly full, or without persistence."""

from collections.abc import Iterator

from core.logging import get_logger
from core.tasks import metrics
from core.tasks.engine import Condition, Engine, Promise

logger = get_logger(__name__)

NEARLY_FULL = 0.8
"""The share of the server's memory at which it counts as nearly full."""


class Monitor:
    """Watches the condition of the queue's server.

    Args:
        engine: The engine.
        is_production: Whether the server must keep its data when it restarts.
    """

    def __init__(self, engine: Engine, is_production: bool) -> None:
        self._engine = engine
        has_jobs = Promise.DURABLE in engine.promises
        keeps_copies = Promise.SERVER_DATA_LOSS in engine.promises
        self._must_persist = is_production and has_jobs and not keeps_copies
        self._logged: set[str] = set()

    async def check(self) -> list[str]:
        """Return what an operator should change about the server. Each new warning is logged.

        Raises:
            QueueRefuses: The server takes no jobs now.
            QueueUnavailable: The server cannot be reached.
        """
        condition = await self._engine.check()
        metrics.MEMORY.set(condition.memory or 0)
        warnings = list(self._find_risks(condition))
        for warning in warnings:
            if warning not in self._logged:
                logger.warning("queue is at risk", risk=warning)
        self._logged = set(warnings)
        return warnings

    def _find_risks(self, condition: Condition) -> Iterator[str]:
        if condition.memory and condition.memory >= NEARLY_FULL:
            yield f"the queue's server uses more than {NEARLY_FULL:.0%} of its maxmemory"
        if self._must_persist and condition.persists is False:
            yield "the queue's server loses all jobs when it restarts: set appendonly yes"
        if self._must_persist and condition.persists is None:
            yield "the queue's server does not say whether it keeps jobs when it restarts"
