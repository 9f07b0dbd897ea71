import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend as ResultBackend
from hits import IDLE, PAUSE, RESULT_SECONDS, URL, hit

broker = RedisBroker(url=URL, heartbeat_timeout=round(IDLE * 1000), maintenance_chance=100_000)
options = {"max_retries": 1000}
if RESULT_SECONDS:
    broker.add_middleware(Results(backend=ResultBackend(url=URL)))
    options |= {"store_results": True, "result_ttl": RESULT_SECONDS * 1000}
dramatiq.set_broker(broker)


@dramatiq.actor(**options)
def job(number: int) -> None:
    if PAUSE:
        time.sleep(PAUSE)
    hit(number)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        job.send(number)
