import asyncio
import json
import sys

import streaq
import uvloop
from hits import CONCURRENCY, IDLE, PAUSE, RESULT_SECONDS, URL, hit

worker = streaq.Worker(
    redis_url=URL,
    queue_name="bare",
    concurrency=CONCURRENCY,
    priorities=["low", "normal", "high"],
    idle_timeout=IDLE,
    serializer=lambda data: json.dumps(data).encode(),
    deserializer=json.loads,
)


@worker.task(ttl=RESULT_SECONDS, silent=True, timeout=None, max_tries=None)
async def job(number: int) -> None:
    if PAUSE:
        await asyncio.sleep(PAUSE)
    hit(number)


async def enqueue(jobs: int) -> None:
    async with worker:
        for start in range(0, jobs, 500):
            numbers = range(start, min(start + 500, jobs))
            await worker.enqueue_many(
                [job.enqueue(number).start(priority="normal") for number in numbers]
            )


if __name__ == "__main__":
    uvloop.run(worker.run_async() if sys.argv[1] == "work" else enqueue(int(sys.argv[1])))
