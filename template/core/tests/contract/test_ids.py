"""Jobs that are enqueued more than once: chosen ids, idempotency keys and unique jobs."""

import asyncio

import pytest

from core.tasks import TransientError
from core.tests.running import WAIT


async def test_a_chosen_id_runs_once_even_after_its_job_has_ended(worker, run):
    calls = []

    @worker.task
    async def once(value: int) -> int:
        calls.append(value)
        return value

    async with run():
        first = await once.using(job_id="invoice:7").enqueue(1)
        second = await once.using(job_id="invoice:7").enqueue(2)
        assert first.id == second.id == "invoice:7"
        assert await first.result(WAIT) == 1
        third = await once.using(job_id="invoice:7").enqueue(3)
        assert await third.result(WAIT) == 1
        assert await (await once.enqueue(4)).result(WAIT) == 4
    assert calls == [1, 4]


async def test_jobs_with_the_same_idempotency_key_are_one_job(worker, run):
    charged = []

    @worker.task(idempotency_key=lambda order, amount: f"charge {order}")
    async def charge(order: str, amount: int) -> int:
        charged.append(amount)
        return amount

    async with run():
        first, second = await charge.enqueue("o-1", 1), await charge.enqueue(order="o-1", amount=2)
        other = await charge.enqueue("o-2", 3)
        assert await first.result(WAIT) == await second.result(WAIT) == 1
        assert await other.result(WAIT) == 3
        third = await charge.enqueue("o-1", 4)
        assert third.id == first.id == second.id
        assert await third.result(WAIT) == 1
    assert sorted(charged) == [1, 3]


async def test_unique_jobs_are_one_job_until_it_has_ended(worker, run):
    gate = asyncio.Event()
    runs = []

    @worker.task(unique=True, max_retries=1, retry_delay=0.01)
    async def rebuild(index: str) -> str:
        runs.append(index)
        await gate.wait()
        if runs == ["a"]:
            raise TransientError("not yet")
        return index

    async with run():
        first = await rebuild.enqueue("a")
        assert (await rebuild.enqueue(index="a")).id == first.id
        assert (await rebuild.using(job_id="mine").enqueue("a")).id == first.id
        gate.set()
        await first.result(WAIT)
        assert runs == ["a", "a"]
        again, *others = await rebuild.enqueue_many([["a"], ["b"], ["b"]])
        assert again.id != first.id
        assert len({job.id for job in others}) == 1
        await asyncio.gather(again.result(WAIT), *(job.result(WAIT) for job in others))
        assert sorted(runs) == ["a", "a", "a", "b"]
        mine = await rebuild.using(job_id="mine").enqueue("a")
        assert mine.id == "mine"
        assert await mine.result(WAIT) == "a"


async def test_a_unique_job_whose_message_was_lost_is_enqueued_again(worker, run, monkeypatch):
    """A process may end after it claimed the key and before it published the message."""

    @worker.task(unique=True)
    async def rebuild() -> str:
        return "done"

    async def die(*_) -> None:
        raise RuntimeError("this process ends here")

    async with run():
        with monkeypatch.context() as patch:
            patch.setattr(worker.queue.engine, "publish", die)
            with pytest.raises(RuntimeError):
                await rebuild.enqueue()
        assert await (await rebuild.enqueue()).result(WAIT) == "done"
