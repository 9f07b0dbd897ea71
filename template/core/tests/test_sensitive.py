"""Sensitive arguments: encrypted wherever they are kept, masked wherever they are shown."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from core import commands
from core.logging import configure_logging, get_logger
from core.models import DeadLetterModel
from core.tasks import InvalidTask, JobFailed, PermanentError, Sensitive
from core.testing import pytest_configure
from core.tests.running import running

WAIT = 10
TOKEN = "tok-5ecret-4711"


class Card(BaseModel):
    holder: str
    number: Sensitive[str]


async def test_they_arrive_as_themselves(worker, run):
    seen = []

    @worker.task
    async def pay(user: str, token: Sensitive[str], card: Card) -> None:
        seen.append((user, token, card))

    card = Card(holder="Ada", number=TOKEN)
    async with run():
        await (await pay.enqueue("ada", TOKEN, card)).result(WAIT)
    assert seen == [("ada", TOKEN, card)]


@pytest.fixture
def lines(engine_settings, monkeypatch) -> Iterator[io.StringIO]:
    """What a worker process would write to standard error."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    lines = io.StringIO()
    monkeypatch.setattr("sys.stderr", lines)
    configure_logging(engine_settings, "worker")
    yield lines
    root.handlers, root.level = before
    pytest_configure()


async def test_no_log_line_dead_letter_or_error_shows_them(worker, run, lines):
    broken = True
    logger = get_logger("app.tasks.reset")

    @worker.task(max_retries=1, retry_delay=0.01)
    async def reset(user: str, token: Sensitive[str]) -> str:
        logger.info("resetting", link=f"https://example.com/reset?token={token}")
        logging.getLogger("app").warning("of the standard library: %s", token)
        if broken:
            raise ValueError(f"cannot reset {user} with {token}")
        return token[:3]

    async with run():
        job = await reset.enqueue("ada", TOKEN)
        with pytest.raises(JobFailed, match=r"cannot reset ada with \*\*\*"):
            await job.result(WAIT)
        await worker.dead_letters.move()
        stored = await DeadLetterModel.get_pymongo_collection().find_one({})
        (letter,) = await worker.dead_letters.list()
        shown = commands._describe(letter)
        assert TOKEN not in f"{stored} {shown} {await job.record()}"
        assert json.loads(letter.arguments)["user"] == "ada"
        assert "'***'" in shown.replace('"', "'")
        broken = False
        again = await worker.dead_letters.replay(letter.id)
        assert await worker.job(again).result(WAIT) == TOKEN[:3]
    assert "cannot reset ada with ***" in lines.getvalue()
    assert "of the standard library: ***" in lines.getvalue()
    assert TOKEN not in lines.getvalue()


async def test_no_form_of_them_is_shown(worker, run):
    secrets = ('p\u00e4ssw"ort\\x', "1234", "12345678", b"top-secret")

    @worker.task(max_retries=0)
    async def leak(
        text: Sensitive[str], short: Sensitive[str], long: Sensitive[str], data: Sensitive[bytes]
    ) -> None:
        raise ValueError(f"{text} {text!r} {json.dumps(text)} {short} {long} {data!r}")

    async with run():
        job = await leak.enqueue(*secrets)
        with pytest.raises(JobFailed) as failed:
            await job.result(WAIT)
        assert not any(part in str(failed.value) for part in ("ssw", "1234", "5678", "top-secret"))


async def test_they_pass_through_chains(worker, run):
    @worker.task
    async def issue(user: str) -> str:
        return f"{user}-id"

    @worker.task
    async def use(token: Sensitive[str]) -> str:
        return token.upper()

    async with run():
        assert await (await (issue | use).enqueue("ada")).result(WAIT) == "ADA-ID"


async def test_another_key_is_told(worker, engine_settings):
    @worker.task
    async def reset(token: Sensitive[str]) -> None: ...

    async with running(worker, engine_settings):
        sealed = worker.queue.cipher.encrypt(TOKEN)
        assert worker.queue.cipher.decrypt(sealed) == TOKEN
    other = engine_settings.model_copy(
        update={"secret_key": type(engine_settings.secret_key)("x" * 32)}
    )
    async with worker.open(other):
        with pytest.raises(PermanentError, match="SECRET_KEY_PREVIOUS"):
            worker.queue.cipher.decrypt(sealed)
    both = other.model_copy(update={"secret_key_previous": engine_settings.secret_key})
    async with worker.open(both):
        assert worker.queue.cipher.decrypt(sealed) == TOKEN


async def test_a_result_cannot_be_sensitive(worker, engine_settings):
    @worker.task
    async def make() -> Sensitive[str]:
        return TOKEN

    with pytest.raises(InvalidTask, match="a result is stored in plain text"):
        async with worker.open(engine_settings):
            pass
