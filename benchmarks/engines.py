"""Each engine against the bare system below it. Goal: 0 lost, 0.7x the jobs of the bare system.

The service has every feature on, as in `overhead.py`. Both have one worker process and a queue
server without persistence, and take turns. `celery-rabbitmq` is Celery on RabbitMQ, which must be
installed. Celery without this service runs once with the pool `threads`, as in this service, and
once with `prefork`. The table shows:

    jobs/s    no-op jobs a second in this service
    bare      jobs a second in the bare system, which keeps no records
    ratio     the ratio of both
    lost      of 2,000 jobs, while the worker is killed every 2 s and the queue server is restarted
              once: the jobs that never ran. The restarted server is empty, except for RabbitMQ and
              for the engine `redis`
    doubled   runs beyond one for each of these jobs
    memory    MB of a worker process without jobs
    CPU       seconds of CPU time of this process in a minute

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
