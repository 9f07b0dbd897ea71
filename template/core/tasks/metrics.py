"""Prometheus metrics of jobs and queue."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800)
"""Upper limits in seconds."""

ENDED = Counter(
    "jobs_total",
    "Runs of jobs by how they ended: completed, retried, failed or aborted",
    ["task", "ended_as"],
)
DURATION = Histogram(
    "job_duration_seconds",
    "How long runs of jobs took",
    ["task"],
    buckets=BUCKETS,
)
WAIT = Histogram(
    "job_wait_seconds",
    "Time from when a job was due to its start",
    ["task"],
    buckets=BUCKETS,
)
RUNNING = Gauge("jobs_running", "Jobs that are running in this process")
QUEUE = Gauge(
    "queue_jobs",
    "Jobs in the queue by status: pending, running or scheduled",
    ["state"],
)
OLDEST = Gauge(
    "queue_oldest_job_seconds",
    "Time for which the oldest pending job has been due",
)
MEMORY = Gauge(
    "queue_memory_ratio",
    "Share of the memory limit of the queue's server that is used; 0 if it has no limit",
)
DEAD = Gauge("dead_letters", "Dead letters that nobody has replayed or discarded")
STASHED = Gauge("dead_letters_stashed", "Dead letters that wait in the queue's server for MongoDB")


# Each of these returns the same object for the same labels. `labels` itself takes a lock.
wait = cache(WAIT.labels)
duration = cache(DURATION.labels)
ended = cache(ENDED.labels)
