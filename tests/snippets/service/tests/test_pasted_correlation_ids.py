"""The snippets of correlation-ids.md."""

from app.pasted import (
    correlation_basic,
    correlation_errors,
    correlation_explicit,
    correlation_within,
)
from core.background import create_background_task
from core.context import TaskContext
from core.testing import eventually


async def test_correlation_ids(notes, caplog):
    await correlation_basic.my_handler()
    (line,) = await eventually(notes)
    assert len(line.removeprefix("saved ITEM ")) == 32  # a new id
    with TaskContext.use("request-1"):
        assert await correlation_basic.my_handler() == {"status": "processing"}
    await eventually(lambda: "saved ITEM request-1" in notes())

    answer = await correlation_explicit.my_api_handler("request-2")
    assert answer == {"status": "processing", "request_id": "request-2"}
    await eventually(lambda: "request data request-2" in notes())


async def test_the_id_within_a_task(notes, caplog):
    caplog.set_level("INFO")
    await create_background_task(correlation_within.process_data, correlation_id="request-3")
    assert notes() == ["more request-3"]
    assert "Processing data with correlation ID: request-3" in caplog.text


async def test_errors(notes, caplog):
    await correlation_errors.my_error_handling_task()
    assert notes() == ["admin Background task failed: important"]
    assert "background task failed" in caplog.text
