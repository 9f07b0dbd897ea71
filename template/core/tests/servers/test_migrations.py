"""Migrations on a real MongoDB: all or nothing, once, one process at a time."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from core.commands.migrate import check, go_back, go_forward
from core.config import ROOT, Settings
from core.migrations import MigrationError, apply, files, find_migration, hold_lock, lock
from core.models import MigrationLockModel, MigrationModel
from core.testing import eventually, run_migration

HEAD = """
from beanie import Document, free_fall_migration, iterative_migration


class Old(Document):
    name: str

    class Settings:
        name = "people"


class New(Document):
    title: str

    class Settings:
        name = "people"
"""
RENAME = f"""{HEAD}

class Forward:
    @iterative_migration(batch_size=2)
    async def rename(self, input_document: Old, output_document: New) -> None:
        output_document.title = input_document.name


class Backward:
    @iterative_migration()
    async def rename(self, input_document: New, output_document: Old) -> None:
        output_document.name = input_document.title
"""
HALF = f"""{HEAD}

class Forward:
    @free_fall_migration(document_models=[New])
    async def z_first(self, session):
        await New(title="half").insert(session=session)

    @free_fall_migration(document_models=[New])
    async def a_second(self, session):
        assert await New.find(New.title == "half", session=session).count() == 1
        raise ValueError("the second step fails")
"""
LATER = """
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from beanie import Document, free_fall_migration


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


class Person(Document):
    at: datetime

    class Settings:
        name = "people"


class Forward:
    @free_fall_migration(document_models=[Person])
    async def stamp(self, session):
        await Person(at=Clock().now).insert(session=session)
"""
NAMES = ("Ada", "Eve", "Bob", "Eve", "Zoe")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of `app/migrations`. The process of the fixture `command` has its own."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    monkeypatch.setattr(files, "FOLDER", folder)
    return folder


@pytest.fixture
async def people(db) -> Callable[[], Any]:
    """Five documents in the old form. Returns a function that reads all documents."""
    await db["people"].insert_many([{"name": name} for name in NAMES])

    async def read() -> list[dict[str, Any]]:
        return await db["people"].find({}, {"_id": False}).sort("_id").to_list()

    return read


async def applied() -> list[str]:
    return [each.id for each in await MigrationModel.find_all().sort("_id").to_list()]


async def test_forward_and_backward(db, folder, people):
    (folder / "20270101000000_rename.py").write_text(RENAME)
    before = await people()

    await run_migration("rename")
    assert await people() == [{"title": name} for name in NAMES]
    assert await applied() == ["20270101000000_rename"]

    await run_migration("20270101000000_rename", back=True)
    assert await people() == before
    assert await applied() == []


async def test_a_failure_stores_nothing_and_can_be_corrected(db, folder, people):
    """The steps run in the order of the file. The record is stored together with the change."""
    path = folder / "1_half.py"
    path.write_text(HALF)
    before = await people()
    with pytest.raises(MigrationError, match=r"1_half failed: .*the second step fails") as caught:
        await run_migration("half")
    assert "No change was stored." in str(caught.value)
    assert (await people(), await applied()) == (before, [])

    path.write_text(HALF.replace("raise ValueError", "print"))
    await run_migration("half")
    assert len(await people()) == 6
    assert await applied() == ["1_half"]


async def test_without_a_transaction_a_part_may_stay(db, folder, people):
    (folder / "1_half.py").write_text(f"IN_TRANSACTION = False\n{HALF}")
    with pytest.raises(MigrationError, match="some changes may be stored"):
        await run_migration("half")
    assert len(await people()) == 6
    assert await applied() == []


async def test_a_record_that_exists_undoes_the_change(db, folder, people):
    """As if a process had lost its lock while it was stopped, and another one had been faster."""
    (folder / "1_rename.py").write_text(RENAME)
    await db["migrations"].insert_one({"_id": "1_rename", "applied_at": None})
    before = await people()
    with pytest.raises(MigrationError, match="duplicate key"):
        await apply(find_migration("rename"))
    assert await people() == before


async def test_a_record_that_is_missing_undoes_the_way_back(db, folder, people):
    """As above: another process has taken the migration back already."""
    (folder / "1_rename.py").write_text(RENAME)
    await db["people"].update_many({}, {"$rename": {"name": "title"}})
    before = await people()
    with pytest.raises(MigrationError, match="1_rename failed: this database does not have it, or"):
        await run_migration("rename", back=True)
    assert await people() == before


@pytest.mark.parametrize("extra", ["", '    model_config = {"extra": "allow"}\n'])
async def test_no_field_is_deleted_by_mistake(db, folder, people, extra):
    """`iterative_migration` replaces documents by the fields that its classes declare."""
    await db["people"].insert_one({"name": "Kim", "owner": "7", "born": 1990})
    before = await people()
    source = RENAME.replace("(Document):\n", f"(Document):\n{extra}")
    (folder / "1_rename.py").write_text(source)
    if extra:
        await run_migration("rename")
        kept = {"owner": "7", "born": 1990}
        assert (await people())[-1].items() >= {"title": "Kim", **kept}.items()
        return
    with pytest.raises(MigrationError, match="documents in people have born, owner, which Old"):
        await run_migration("rename")
    assert await people() == before

    declared = "    owner: str = ''\n    born: int = 0\n"
    source = RENAME.replace("(Document):\n", f"(Document):\n{declared}")
    (folder / "1_rename.py").write_text(source)
    await run_migration("rename")
    assert (await people())[-1] == {"title": "Kim", "owner": "7", "born": 1990}


async def test_types_that_are_texts_are_found(db, folder):
    """Pydantic and dataclasses look for them in the module of the class."""
    (folder / "1_later.py").write_text(LATER)
    await run_migration("later")
    assert await db["people"].find_one({"at": {"$type": "date"}})


async def test_one_process_at_a_time(db, monkeypatch):
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.05)
    running: list[int] = []
    waited: list[int] = []

    async def migrate(number: int) -> None:
        async with hold_lock(lambda: waited.append(number)):
            running.append(number)
            if number == 0:
                await eventually(lambda: len(waited) == 2)
            assert running == [number]
            running.remove(number)

    first = asyncio.create_task(migrate(0))
    await eventually(lambda: running)
    await asyncio.gather(first, migrate(1), migrate(2))
    assert sorted(waited) == [1, 2]


async def test_a_lock_is_extended_and_expires(db, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.05)
    waited: list[bool] = []

    async def take() -> None:
        async with hold_lock(lambda: waited.append(True)):
            pass

    async def read_until() -> Any:
        held = await MigrationLockModel.get("migrate")
        assert held
        return held.until

    async with hold_lock(lambda: pytest.fail("the lock was held")):
        first = await read_until()
        second = asyncio.create_task(take())

        async def is_extended() -> bool:
            return await read_until() > first

        await eventually(is_extended)
        assert waited
        assert not second.done()
    await second

    await lock._write({}, "killed")  # nobody extends it
    await asyncio.wait_for(take(), 30)


async def test_a_lock_that_was_lost_ends_the_migration(db, monkeypatch):
    """As if the process had been stopped for so long that another one took the lock."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.4)

    async def lose() -> None:
        async with hold_lock(lambda: None):
            await lock._write({}, "another")
            await asyncio.sleep(60)

    with pytest.raises(MigrationError, match="Another process took the lock"):
        await lose()
    held = await MigrationLockModel.get("migrate")
    assert held
    assert held.owner == "another"


async def test_an_error_of_the_release_hides_no_other_one(db, monkeypatch):
    collection = type(MigrationLockModel.get_pymongo_collection())

    async def fail(*_: object, **__: object) -> None:
        raise AutoReconnect("the server is down")

    async def lose_the_server() -> None:
        async with hold_lock(lambda: None):
            monkeypatch.setattr(collection, "update_one", fail)
            raise MigrationError("mine")

    with pytest.raises(MigrationError, match="mine"):
        await lose_the_server()


@pytest.mark.parametrize(
    ("name", "source", "error"),
    [
        ("nothing", "", "no file in app/migrations has the name nothing"),
        ("twice", "", "several files in app/migrations have the name twice"),
        ("empty", "", "3_empty.py has no class Forward"),
        ("broken", "import nowhere\n", "4_broken.py: .*No module named 'nowhere'"),
    ],
)
async def test_what_cannot_be_run_is_told(db, folder, name, source, error):
    for file in ("1_twice.py", "2_twice.py", "3_empty.py", "_helper.py"):
        (folder / file).write_text("")
    (folder / "4_broken.py").write_text(source)
    with pytest.raises(MigrationError, match=error):
        await run_migration(name)


async def test_a_migration_without_backward_is_not_taken_back(db, folder):
    (folder / "1_rename.py").write_text(RENAME.partition("class Backward")[0])
    await run_migration("rename")
    with pytest.raises(MigrationError, match=r"1_rename\.py has no class Backward"):
        await run_migration("rename", back=True)
    assert await applied() == ["1_rename"]


PROCESS = """
import sys
from pathlib import Path

from core.commands.main import main
from core.migrations import files, lock

files.FOLDER = Path(sys.argv[1])
lock.LEASE_SECONDS = lock.POLL_SECONDS = 0.5
sys.exit(main(["migrate", *sys.argv[2:]]))
"""
"""`python -m core migrate` with another folder, and with a lock that expires sooner.

Not the fixture `command`, because its process loads the service, and cannot be killed."""


class Command:
    """Runs `just migrate` in a separate process, because it initialises documents again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-c", PROCESS, str(self._folder), *arguments]
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        process = await self.start(*arguments)
        output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()


@pytest.fixture
def migrate(settings: Settings, folder: Path) -> Command:
    return Command(folder)


async def test_the_order_forward_and_backward(db, folder, people, capsys):
    """A file that comes later with an older time is applied too. A second run does nothing."""
    for name in ("2_b", "3_c"):
        (folder / f"{name}.py").write_text(RENAME.replace('"people"', f'"{name}"'))
    steps: list[tuple[Callable[..., Any], tuple[str, ...], str]] = [
        (go_forward, (), "2_b applied\n3_c applied\n"),
        (go_forward, (), "Nothing to migrate.\n"),
        (check, (), ""),
        (go_back, ("b",), "3_c taken back\n2_b taken back\n"),
        (go_back, ("2_b",), "2_b is not applied. Nothing was changed.\n"),
    ]
    for function, arguments, printed in steps:
        await function(*arguments)
        assert capsys.readouterr().out == printed
    (folder / "1_a.py").write_text(RENAME)
    await apply(find_migration("c"))
    assert await check() == 1
    assert capsys.readouterr() == ("1_a\n2_b\n", "2 to apply. Run `just migrate`.\n")
    await go_forward()
    assert await applied() == ["1_a", "2_b", "3_c"]
    assert await people() == [{"title": name} for name in NAMES]


async def test_a_file_that_cannot_be_read_is_found_before_a_change(db, folder, people):
    """Otherwise the words "Nothing was changed" would be wrong."""
    (folder / "1_a.py").write_text(RENAME.partition("class Backward")[0])
    (folder / "2_b.py").write_text(RENAME.replace('"people"', '"b"'))
    (folder / "3_c.py").write_text("")
    with pytest.raises(MigrationError, match=r"3_c\.py has no class Forward"):
        await go_forward()
    assert await applied() == []

    (folder / "3_c.py").write_text(RENAME.replace('"people"', '"c"'))
    await go_forward()
    with pytest.raises(MigrationError, match=r"1_a\.py has no class Backward"):
        await go_back("a")
    assert await applied() == ["1_a", "2_b", "3_c"]

    (folder / "3_c.py").unlink()
    with pytest.raises(MigrationError, match="3_c is newer and applied, but its file is not in"):
        await go_back("b")
    assert await applied() == ["1_a", "2_b", "3_c"]


async def test_the_command_ends_with_one_error(db, folder, people, migrate):
    (folder / "1_rename.py").write_text(RENAME)
    (folder / "2_half.py").write_text(HALF)
    status, output, errors = await migrate.run()
    assert (status, output) == (2, "1_rename applied\n")
    assert errors.startswith("error: 2_half failed: ")
    assert "Traceback" not in errors
    assert await people() == [{"title": name} for name in NAMES]


async def test_two_commands_at_once(db, folder, people, migrate):
    (folder / "1_rename.py").write_text(RENAME)
    found = await asyncio.gather(migrate.run(), migrate.run())
    assert sorted(output for _, output, _ in found) == [
        "1_rename applied\n",
        "Nothing to migrate.\n",
    ]
    assert [status for status, _, _ in found] == [0, 0]
    assert await people() == [{"title": name} for name in NAMES]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_a_killed_command_leaves_the_old_state(db, folder, people, migrate, tmp_path, number):
    """The next command goes on as soon as the server has given up the transaction.

    After Ctrl-C and SIGTERM, the process itself takes it back, and frees the lock.
    """
    path = folder / "1_half.py"
    reached = tmp_path / "reached"
    wait = (
        f"import asyncio, pathlib; pathlib.Path({str(reached)!r}).touch(); await asyncio.sleep(600)"
    )
    path.write_text(HALF.replace('raise ValueError("the second step fails")', wait))
    before = await people()
    process = await migrate.start()
    await eventually(reached.exists)
    process.send_signal(number)
    output, errors = await process.communicate()
    assert (await people(), await applied()) == (before, [])
    if number != signal.SIGKILL:
        assert (process.returncode, output) == (130, b"")
        assert errors == b"Interrupted. `just migrate --check` lists what is left to apply.\n"
        held = await MigrationLockModel.get("migrate")
        assert held
        assert held.until == lock.FREE

    path.write_text(HALF.replace("raise ValueError", "print"))
    status, output, errors = await migrate.run()
    assert (status, output.splitlines()[-1]) == (0, "1_half applied"), errors
    assert len(await people()) == 6
