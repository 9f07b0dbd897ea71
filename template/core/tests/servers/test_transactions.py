"""Transactions need a replica set of MongoDB."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.database import TransactionsUnsupported, with_transaction
from core.dev.servers import MONGODB, free_port, start_server
from core.models import ScheduleModel
from core.tests.running import running


async def test_a_server_without_transactions_is_named_in_one_line(worker, settings, tmp_path):
    def command(port: int, data: Path) -> list[str]:
        options = MONGODB.command(port, data)
        at = options.index("--replSet")
        return options[:at] + options[at + 2 :]

    async def create(session) -> None:
        state = ScheduleModel(id="one", trigger="", enabled=False, next_run=None)
        await state.insert(session=session)

    standalone = replace(MONGODB, command=command, prepare=lambda port: None)
    process = start_server(standalone, tmp_path / "mongod", port := free_port())
    try:
        changed = settings.model_copy(update={"mongodb_url": MONGODB.url(port)})
        async with running(worker, changed):
            with pytest.raises(TransactionsUnsupported, match="replica set"):
                await with_transaction(create)
    finally:
        process.kill()
        process.wait()
