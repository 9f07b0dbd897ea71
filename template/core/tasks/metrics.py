"""Prometheus metrics of jobs and queue."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800)

ENDED = Counter(
    "jobs_total", "Runs of jobs by how they ended: completed, retried, failed, aborted", ["task", "outcome"]
)
DURATION = Histogram("job_duration_seconds", "How long runs took", ["task"], buckets=SECONDS)
WAIT = Histogram("job_wait_seconds", "From when a job was due to its first start", ["task"], buckets=SECONDS)
RUNNING = Gauge("jobs_running", "Jobs that run in this process")
QUEUE = Gauge("queue_jobs", "Jobs in the queue: `ready`, `running`, or `delayed` until their time", ["state"])
OLDEST = Gauge("queue_oldest_job_seconds", "Age of the oldest job that waits for a worker")
DEAD = Gauge("dead_letters", "Dead letters about which nobody has decided")
