"""Sensitive arguments: a task gets them in plain text; logs, errors and dead letters do not."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from pydantic import BaseModel

from core.commands import dead_letters
from core.logging import configure_logging, get_logger
from core.logging.direct import write_directly
from core.models import DeadLetterModel
from core.tasks import JobFailed, Sensitive
from core.testing import configure_test_logging
from core.tests.running import WAIT

TOKEN = "tok-5ecret-4711"


class Card(BaseModel):
    holder: str
    number: Sensitive[str]


async def test_a_task_gets_its_arguments_in_plain_text(worker, run):
    seen = []

    @worker.task
    async def pay(user: str, token: Sensitive[str], card: Card) -> None:
        seen.append((user, token, card))

    card = Card(holder="Ada", number=TOKEN)
    async with run():
        await (await pay.enqueue("ada", TOKEN, card)).result(WAIT)
    assert seen == [("ada", TOKEN, card)]


@pytest.fixture
def log(engine_settings, capfd) -> Iterator[Callable[[], str]]:
    """Return a function that returns the lines that a worker process writes to standard error."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure_logging(engine_settings, "worker")
    # A cached logger would keep this configuration in later tests.
    structlog.configure(cache_logger_on_first_use=False)

    def read() -> str:
        for handler in root.handlers:
            handler.flush()
        return capfd.readouterr().err

    yield read
    root.handlers, root.level = before
    write_directly(None)
    configure_test_logging()


async def test_logs_dead_letters_and_errors_show_no_sensitive_argument(worker, run, log):
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
        shown = dead_letters.describe(letter)
        assert TOKEN not in f"{stored} {shown} {await job.record()}"
        assert json.loads(letter.arguments)["user"] == "ada"
        assert "'***'" in str(shown["arguments"])
        broken = False
        again = await worker.dead_letters.replay(letter.id)
        assert await worker.job(again).result(WAIT) == TOKEN[:3]
    lines = log()
    assert "cannot reset ada with ***" in lines
    assert "of the standard library: ***" in lines
    assert TOKEN not in lines


async def test_an_error_shows_no_form_of_a_sensitive_argument(worker, run):
    secrets = ('p\u00e4ssw"ort\\x', "1234", "12345678", b"top-secret")

    @worker.task(max_retries=0)
    async def leak(
        text: Sensitive[str],
        short: Sensitive[str],
        long: Sensitive[str],
        data: Sensitive[bytes],
    ) -> None:
        raise ValueError(f"{text} {text!r} {json.dumps(text)} {short} {long} {data!r}")

    async with run():
        # A random id could contain the digits.
        job = await leak.using(job_id="leak").enqueue(*secrets)
        with pytest.raises(JobFailed) as failed:
            await job.result(WAIT)
        parts = ("ssw", "1234", "5678", "top-secret")
        assert not any(part in str(failed.value) for part in parts)


async def test_a_chain_passes_a_sensitive_argument_on(worker, run):
    @worker.task
    async def issue(user: str) -> str:
        return f"{user}-id"

    @worker.task
    async def use(token: Sensitive[str]) -> str:
        return token.upper()

    async with run():
        assert await (await (issue | use).enqueue("ada")).result(WAIT) == "ADA-ID"
