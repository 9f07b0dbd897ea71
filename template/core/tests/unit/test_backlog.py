"""The verdict on the backlog."""

from types import SimpleNamespace
from typing import Any

import pytest

from core.tasks.backlog import judge_backlog, say_seconds
from core.tasks.engine import Stats

LATE = "Start more workers, or look for a task that is slow or runs too often."


class FixedEngine:
    """An engine with these figures."""

    def __init__(self, pending: int, oldest: float) -> None:
        self._stats = Stats(pending, running=0, scheduled=0, oldest=oldest)

    async def stats(self) -> Stats:
        return self._stats


@pytest.mark.parametrize(
    ("pending", "oldest", "text"),
    [
        (0, 0.0, "The workers keep up: 0 jobs pending."),
        (1, 0.4, "The workers keep up: 1 job pending, the oldest for 0 s."),
        (12, 119.0, "The workers keep up: 12 jobs pending, the oldest for 119 s."),
        (999, 599.0, "The workers keep up: 999 jobs pending, the oldest for 9 min."),
        (1000, 3.0, f"The workers do not keep up: 1,000 jobs pending, the oldest for 3 s. {LATE}"),
        (2, 600.0, f"The workers do not keep up: 2 jobs pending, the oldest for 10 min. {LATE}"),
        (2, 7300.0, f"The workers do not keep up: 2 jobs pending, the oldest for 2 h. {LATE}"),
        (
            2,
            260_000.0,
            f"The workers do not keep up: 2 jobs pending, the oldest for 3 days. {LATE}",
        ),
    ],
)
async def test_the_verdict_says_whether_the_workers_keep_up(pending, oldest, text):
    engine: Any = FixedEngine(pending, oldest)
    settings: Any = SimpleNamespace(task_backlog_limit=1000, task_backlog_seconds=600)
    verdict = await judge_backlog(engine, settings)
    assert verdict.text == text
    assert verdict.is_late == text.startswith("The workers do not keep up")
    assert verdict.stats.pending == pending


@pytest.mark.parametrize(
    ("seconds", "text", "whole"),
    [
        (0.0254, "25 ms", "0 s"),
        (3.24, "3.2 s", "3 s"),
        (12.3, "12 s", "12 s"),
        (150.0, "2 min", "2 min"),
        (7300.0, "2 h", "2 h"),
    ],
)
def test_a_duration_has_a_unit(seconds, text, whole):
    assert (say_seconds(seconds), say_seconds(seconds, whole=True)) == (text, whole)
