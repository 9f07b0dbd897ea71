"""The size of arguments is limited, and checked before anything is stored."""

import pytest

from core.database import with_transaction
from core.models import OutboxModel
from core.tasks import InvalidArguments, JobFailed, Sensitive
from core.tests.running import WAIT


@pytest.fixture
def engine_settings(engine_settings):
    return engine_settings.model_copy(update={"task_max_arguments": 1000})


async def test_large_arguments_are_refused_by_name(worker, run):
    @worker.task(unique=True)
    async def resize(name: str, image: Sensitive[bytes], width: int = 0) -> None: ...

    @worker.task
    async def then(value: None) -> None: ...

    large = b"x" * 2000
    problem = (
        r"parameter image: 2\d\d\d bytes of arguments are more than 1000 \(TASK_MAX_ARGUMENTS\)"
    )
    async with run():

        async def enqueue(_session) -> None:
            await resize.enqueue("a", b"")
            await resize.enqueue("b", large)

        with pytest.raises(InvalidArguments, match=problem):
            await resize.enqueue("a", large)
        with pytest.raises(InvalidArguments, match=problem) as raised:
            await resize.enqueue_many([["a", b""], ["b", large]])
        assert "in the set of arguments 1" in str(raised.value)
        with pytest.raises(InvalidArguments, match=problem):
            await (resize | then).enqueue("a", large)
        with pytest.raises(InvalidArguments, match=problem):
            await with_transaction(enqueue)
        assert await OutboxModel.count() == 0
        stats = await worker.queue.engine.stats()
        assert (stats.pending, stats.scheduled) == (0, 0)
        # The refused jobs hold no key.
        await (await resize.enqueue("a", b"")).result(WAIT)


async def test_a_large_result_fails_its_stage_by_the_next_parameter(worker, run):
    @worker.task
    async def load() -> str:
        return "é" * 600

    @worker.task
    async def save(text: str) -> None: ...

    async with run():
        chain = await (load | save).enqueue()
        problem = "the result of load does not fit the next stage: .*parameter text: 12.. bytes"
        with pytest.raises(JobFailed, match=problem):
            await chain.result(WAIT)
