import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from hits import IDLE, PAUSE, URL, hit

dramatiq.set_broker(
    RedisBroker(url=URL, heartbeat_timeout=round(IDLE * 1000), maintenance_chance=100_000)
)


@dramatiq.actor(max_retries=1000)
def job(number: int) -> None:
    if PAUSE:
        time.sleep(PAUSE)
    hit(number)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        job.send(number)
