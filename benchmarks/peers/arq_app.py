import asyncio
import sys
from typing import ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from hits import CONCURRENCY, IDLE, PAUSE, RESULT_SECONDS, URL, hit


async def job(ctx: object, number: int) -> None:
    if PAUSE:
        await asyncio.sleep(PAUSE)
    hit(number)


class WorkerSettings:
    functions: ClassVar = [job]
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = CONCURRENCY
    keep_result = RESULT_SECONDS
    job_timeout = IDLE
    max_tries = 1000


async def enqueue(jobs: int) -> None:
    pool = await create_pool(RedisSettings.from_dsn(URL))
    for start in range(0, jobs, 32):
        await asyncio.gather(
            *(pool.enqueue_job("job", number) for number in range(start, min(start + 32, jobs)))
        )
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1])))
