"""The supervisor of several worker processes, which starts, replaces and stops them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from math import inf
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from core.config import Settings
from core.health_server import serve_health
from core.logging import configure_logging, get_logger
from core.worker_link import LATE_SECONDS, VARIABLE, Report

logger = get_logger(__name__)

TICK_SECONDS = 0.1
STEADY_SECONDS = 60.0
"""A process that ends after a longer life is started again at once, others after a pause."""
LONGEST_PAUSE = 30
SILENT_SECONDS = 5.0
"""A process that reports nothing for longer does not count as one that takes jobs."""
PATIENCE_SECONDS = 30.0
"""How long the watchdog of a stuck worker may take to end it before the supervisor kills it."""


class WorkerProcess(subprocess.Popen[bytes]):
    """A worker process.

    Args:
        number: A number that no other running process has.
        folder: The folder for the processes' metrics.

    Attributes:
        report: Its newest report.
        stuck_seconds: For how long it has reported a problem or nothing, since its first report.
        is_retiring: Whether it takes no further job, and ends with its last one.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.started_at = time.monotonic()
        self.report = Report()
        self.stuck_seconds = -inf
        self.is_retiring = False
        self._link, link = Pipe()
        variables = {VARIABLE: f"{link.fileno()}:{number}", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        with link:
            super().__init__(
                [sys.executable, "-m", "core", "worker"],
                env={**os.environ, **variables},
                pass_fds=[link.fileno()],
                start_new_session=True,  # Ctrl-C reaches the supervisor only
            )

    @property
    def takes_jobs(self) -> bool:
        """Whether it takes jobs now."""
        return self.report.takes_jobs and self.stuck_seconds < SILENT_SECONDS

    def read_reports(self) -> None:
        """Read what it has reported since the last tick."""
        self.stuck_seconds += TICK_SECONDS  # a clock would run on during a suspension
        with suppress(EOFError, OSError):
            while self._link.poll():
                self.report = self._link.recv()
                if self.report.problem is None:
                    self.stuck_seconds = 0.0

    def retire(self) -> None:
        """Let it take no further job, and end when its running jobs have ended."""
        self.is_retiring = True
        with suppress(OSError):
            self._link.send("retire")


class WorkerProcesses:
    """The supervisor.

    Args:
        settings: The service's settings.
        wanted: The number of processes.
        max_jobs: The number of jobs after which a process is replaced; never if None.
        folder: The folder for the processes' metrics.
    """

    def __init__(self, settings: Settings, wanted: int, max_jobs: int | None, folder: Path) -> None:
        self._wanted = wanted
        self._max_jobs = max_jobs or inf
        self._folder = folder
        self._stop_seconds = settings.task_grace_period + LATE_SECONDS
        # In development a debugger may stop a process.
        limit = settings.task_stuck_limit if settings.is_production else inf
        self._kill_seconds = limit + PATIENCE_SECONDS
        self._processes: list[WorkerProcess] = []
        self._has_started = False
        self._status: int | None = None
        self._pause = 0
        self._next_start = 0.0
        self._signals = 0

    @property
    def problem(self) -> str | None:
        """Which process is stuck and could not be killed, in one line; None if no process is."""
        for process in self._find_stuck(self._kill_seconds + PATIENCE_SECONDS):
            return f"process {process.pid} is stuck and cannot be killed"
        return None

    @property
    def takes_jobs(self) -> bool:
        """Whether as many processes as wanted take jobs."""
        return sum(each.takes_jobs for each in self._find_serving()) >= self._wanted

    def receive_signal(self, *_: object) -> None:
        """Stop after the first signal. Kill all processes after the second one."""
        self._signals += 1

    def run(self) -> int:
        """Keep the processes running until a signal arrives, and then stop them.

        Returns:
            The exit status. If the first process ends before it has taken jobs, this is that
            process's status, because the next one would end in the same way.
        """
        while not self._signals and self._status is None:
            self._keep_running()
            time.sleep(TICK_SECONDS)
            self._note_ends()
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        while self._processes:
            if self._signals > 1 or time.monotonic() > deadline:
                self._status = os.EX_SOFTWARE
                for process in self._processes:
                    process.kill()
            time.sleep(TICK_SECONDS)
            self._note_ends()
        return self._status or 0

    def _find_serving(self) -> list[WorkerProcess]:
        return [each for each in self._processes.copy() if not each.is_retiring]

    def _find_stuck(self, seconds: float) -> list[WorkerProcess]:
        return [each for each in self._processes.copy() if each.stuck_seconds > seconds]

    def _keep_running(self) -> None:
        for process in self._find_stuck(self._kill_seconds):
            process.kill()
        serving = self._find_serving()
        worn = [each for each in serving if each.report.begun >= self._max_jobs]
        # The replacement takes jobs before the old process retires, one pair at a time. An error in
        # the code or a setting ends each process, so the very first one starts alone.
        wanted = self._wanted + bool(worn) if self._has_started else 1
        if len(serving) < wanted:
            if time.monotonic() >= self._next_start:
                used = {each.number for each in self._processes}
                number = next(number for number in count(1) if number not in used)
                self._processes.append(WorkerProcess(number, self._folder))
        elif worn and all(each.takes_jobs for each in serving):
            worn[0].retire()

    def _note_ends(self) -> None:
        for process in self._processes.copy():
            process.read_reports()
            self._has_started |= process.takes_jobs
            status = process.poll()
            if status is None:
                continue
            self._processes.remove(process)
            # The next process with this number continues its counters.
            for file in self._folder.glob(f"gauge_*_{process.number}.db"):
                file.unlink()
            if process.is_retiring and status == 0:
                logger.info("worker process has retired", pid=process.pid)
            elif not self._signals:
                self._note_crash(process, status)

    def _note_crash(self, process: WorkerProcess, status: int) -> None:
        if not self._has_started:
            self._status = status if status >= 0 else 128 - status
            return
        lived = time.monotonic() - process.started_at
        self._pause = 0 if lived > STEADY_SECONDS else min(2 * self._pause + 1, LONGEST_PAUSE)
        self._next_start = time.monotonic() + self._pause
        name = signal.Signals(-status).name if status < 0 else status
        logger.error("worker process ended", pid=process.pid, status=name, pause=self._pause)


def run_workers(settings: Settings, processes: int, max_jobs: int | None) -> int:
    """Run jobs in several processes until SIGINT or SIGTERM.

    Args:
        settings: The service's settings.
        processes: The number of processes.
        max_jobs: The number of jobs after which a process is replaced; never if None.

    Returns:
        The exit status.
    """
    configure_logging(settings, "supervisor")
    with TemporaryDirectory(prefix="metrics-") as folder:
        workers = WorkerProcesses(settings, processes, max_jobs, Path(folder))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, workers.receive_signal)
        if settings.worker_port is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
            serve_health(workers, settings.host, settings.worker_port, registry)
        return workers.run()
