import sys
import time

from celery import Celery
from hits import IDLE, PAUSE, RESULT_SECONDS, URL, hit

app = Celery("celery_app", broker=URL, backend=URL if RESULT_SECONDS else None)
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=RESULT_SECONDS,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"visibility_timeout": round(IDLE)},
)


@app.task(name="job")
def job(number: int) -> None:
    if PAUSE:
        time.sleep(PAUSE)
    hit(number)


if __name__ == "__main__":
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(int(sys.argv[1])):
            job.apply_async((number,), producer=producer)
