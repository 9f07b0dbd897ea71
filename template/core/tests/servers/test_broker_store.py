"""The store of jobs that another system carries."""

from core.tasks import JobStatus
from core.tasks.broker.store import Store
from core.tasks.outcome import Ended, Envelope


async def test_a_run_of_another_worker_with_the_same_fence_settles_nothing(db):
    """A crash of MongoDB may lose the beginning of a delivery. Another worker then begins it."""
    store = Store(db.name, "first")
    await store.add([Envelope("job", b"body", {"state": JobStatus.PENDING, "task": "work"})])
    run = (await store.begin(["job"]))["job"]
    run.outcome = Ended({"state": JobStatus.COMPLETED, "result": 1}, 60)
    jobs = store.collections.jobs
    await jobs.update_one({"_id": "job"}, {"$set": {"worker": "second"}})
    assert await store.settle([run]) == [False]
    await jobs.update_one({"_id": "job"}, {"$set": {"worker": "first"}})
    assert await store.settle([run]) == [True]
    assert await store.settle([run]) == [True]  # the first answer was lost
