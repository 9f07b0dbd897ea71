"""Compare each engine with the bare system below it. Goal: no lost job, and a ratio of 0.7.

The service has every feature on, as in `overhead.py`. The service and the bare system have one
worker process each, and run in turn. The queue's server keeps no data, except for the engine
`redis` and for RabbitMQ. `celery-rabbitmq` is Celery on RabbitMQ, which must be installed. Bare
Celery runs once with the pool `threads`, as in the service, and once with `prefork`. The
output has:

    jobs/s    jobs a second in the service; the jobs do nothing
    bare      jobs a second in the bare system, which keeps no records
    ratio     jobs/s divided by bare
    lost      jobs that never ran, of 2,000, while the worker is killed every 2 s and the queue's
              server is restarted once
    doubled   runs beyond the first one of each of these jobs
    memory    MB of an idle worker process
    CPU       CPU time of this process, in seconds a minute

    script/uv run python benchmarks/engines.py [JOBS [RUNS [ENGINE ...]]]
"""

import sys

from overhead import TASKS
from rendering import run_driver

JOBS = "5000"
RUNS = "3"
ENGINES = ("redis", "celery", "celery-rabbitmq", "streaq", "arq")


def main() -> None:
    jobs, runs, *engines = [*sys.argv[1:], *(JOBS, RUNS)[len(sys.argv) - 1 :]]
    is_good = True
    for engine in engines or ENGINES:
        options = ["--data", f"task_engine={engine.partition('-')[0]}"]
        is_good &= run_driver("engines", TASKS, jobs, runs, engine, options=options) == 0
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
