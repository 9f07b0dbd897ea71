import asyncio
import sys

from hits import IDLE, PAUSE, RESULT_SECONDS, URL, hit
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker = RedisStreamBroker(URL, consumer_id="0", idle_timeout=round(IDLE * 1000), xread_block=1000)
if RESULT_SECONDS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=RESULT_SECONDS))


@broker.task
async def job(number: int) -> None:
    if PAUSE:
        await asyncio.sleep(PAUSE)
    hit(number)


async def enqueue(jobs: int) -> None:
    await broker.startup()
    for start in range(0, jobs, 32):
        await asyncio.gather(*(job.kiq(number) for number in range(start, min(start + 32, jobs))))
    await broker.shutdown()


if __name__ == "__main__":
    from taskiq_app import enqueue  # the task's name then begins with the module's

    asyncio.run(enqueue(int(sys.argv[1])))
