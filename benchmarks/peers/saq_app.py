import asyncio
import sys

from hits import CONCURRENCY, IDLE, PAUSE, RESULT_SECONDS, URL, hit
from saq import Queue

queue = Queue.from_url(URL)


async def job(ctx: object, *, number: int) -> None:
    if PAUSE:
        await asyncio.sleep(PAUSE)
    hit(number)


settings = {
    "queue": queue,
    "functions": [job],
    "concurrency": CONCURRENCY,
    "timers": {"schedule": 1, "worker_info": 2, "sweep": 2, "abort": 1},
}


async def enqueue(jobs: int) -> None:
    await queue.connect()
    for start in range(0, jobs, 32):
        numbers = range(start, min(start + 32, jobs))
        options = {
            "timeout": round(IDLE),
            "heartbeat": round(IDLE),
            "retries": 1000,
            "ttl": RESULT_SECONDS or -1,  # 0 keeps results forever
        }
        await asyncio.gather(
            *(queue.enqueue("job", number=number, **options) for number in numbers)
        )
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1])))
