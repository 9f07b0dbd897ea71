"""Prometheus metrics of jobs and queue."""

import os
from functools import cache, partial

from prometheus_client import Counter, Gauge, Histogram, values

from core.worker_link import number

if number and "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # A worker's number takes the place of its process id, so the number of files is limited.
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
else:  # a child process of a job inherits the variable
    values.ValueClass = values.MutexValue

BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800)
"""Upper limits in seconds. Stored statistics name a bucket by its position."""

ENDED = Counter(
    "jobs_total",
    "Runs of jobs by how they ended: completed, retried, failed or aborted",
    ["task", "ended_as"],
)
DURATION = Histogram(
    "job_duration_seconds",
    "How long runs of jobs took, by how they ended",
    ["task", "ended_as"],
    buckets=BUCKETS,
)
WAIT = Histogram(
    "job_wait_seconds",
    "Time from when a job was due to its start",
    ["task"],
    buckets=BUCKETS,
)
RUNNING = Gauge(
    "jobs_running",
    "Jobs that are running in this worker",
    multiprocess_mode="livesum",
)
_SharedGauge = partial(Gauge, multiprocess_mode="livemax")
QUEUE = _SharedGauge(
    "queue_jobs",
    "Jobs in the queue by status: pending, running or scheduled",
    ["state"],
)
OLDEST = _SharedGauge(
    "queue_oldest_job_seconds",
    "Time for which the oldest pending job has been due",
)
MEMORY = _SharedGauge(
    "queue_memory_ratio",
    "Share of the memory limit of the queue's server that is used; 0 if it has no limit",
)
DEAD = _SharedGauge("dead_letters", "Dead letters that nobody has replayed or discarded")
STASHED = _SharedGauge(
    "dead_letters_stashed", "Dead letters that wait in the queue's server for MongoDB"
)


# Each of these returns the same object for the same labels. `labels` itself takes a lock.
wait = cache(WAIT.labels)
duration = cache(DURATION.labels)
ended = cache(ENDED.labels)
