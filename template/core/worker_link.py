"""The link between a worker process and the supervisor that started it."""

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

VARIABLE = "WORKER_LINK"
"""The variable with the file descriptor of the worker's end, and the worker's number."""
REPORT_SECONDS = 0.5
LATE_SECONDS = 8.0
"""How long a worker may take to end after the grace period of its jobs."""

_descriptor, _, number = os.environ.pop(VARIABLE, "").partition(":")
"""Empty if this process has no supervisor. A job's child process has no link either."""


class Report(NamedTuple):
    """The state of a worker.

    Attributes:
        problem: Why the worker is stuck; None if it works.
        takes_jobs: Whether it takes jobs now.
        begun: The number of jobs that it has begun.
        running: The number of jobs that are running.
    """

    problem: str | None = None
    takes_jobs: bool = False
    begun: int = 0
    running: int = 0


def follow_supervisor(
    make_report: Callable[[], Report], retire: Callable[[], None], grace_period: float
) -> None:
    """Report to the supervisor from a thread, and end this process when the supervisor has ended.

    Args:
        make_report: Returns the state of this worker.
        retire: Stops this worker from taking jobs. The process ends with its last running job.
        grace_period: Seconds that running jobs get at the end.
    """

    def follow() -> None:
        link = Connection(int(_descriptor))
        is_retired = False
        try:
            while True:
                report = make_report()
                link.send(report)
                if is_retired and report.running == 0:
                    break
                if link.poll(REPORT_SECONDS):
                    link.recv()  # the only message tells the worker to retire
                    retire()
                    is_retired = True
                    time.sleep(REPORT_SECONDS)  # let the jobs begin that were just taken
        except (EOFError, OSError):
            pass  # the supervisor has ended
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_period + LATE_SECONDS)
        os._exit(os.EX_SOFTWARE)

    threading.Thread(target=follow, name="supervisor", daemon=True).start()
