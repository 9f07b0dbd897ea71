"""The verdict on the backlog, in words."""

from dataclasses import dataclass

from core.config import Settings
from core.tasks.engine import Engine, Stats

HINT = "Start more workers, or look for a task that is slow or runs too often."


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the workers keep up with the queue, with the reason in words and the figures."""

    is_late: bool
    reason: str
    stats: Stats

    @property
    def text(self) -> str:
        """The reason, and what to do if the workers do not keep up."""
        return f"{self.reason} {HINT}" if self.is_late else self.reason


async def judge_backlog(engine: Engine, settings: Settings) -> Verdict:
    """Judge the backlog by `TASK_BACKLOG_LIMIT` and `TASK_BACKLOG_SECONDS`.

    Raises:
        QueueUnavailable: The server cannot be reached.
    """
    stats = await engine.stats()
    figures = f"{stats.pending:,} job{'s' * (stats.pending != 1)} pending"
    if stats.pending:
        figures += f", the oldest for {say_seconds(stats.oldest, whole=True)}"
    too_many = stats.pending >= settings.task_backlog_limit
    is_late = too_many or stats.oldest >= settings.task_backlog_seconds
    verdict = "do not keep up" if is_late else "keep up"
    return Verdict(is_late, f"The workers {verdict}: {figures}.", stats)


def say_seconds(seconds: float, whole: bool = False) -> str:
    """Return a period for people, such as `25 ms`, `3.2 s`, `12 min` or `2 days`.

    Args:
        seconds: The length in seconds.
        whole: Whether to leave out fractions of a second.
    """
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    if whole or seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
