"""The cipher of sensitive arguments, after a change of SECRET_KEY."""

import pytest
from pydantic import SecretStr

from core.tasks import PermanentError

TOKEN = "tok-5ecret-4711"


async def test_the_previous_key_is_needed_to_decrypt(worker, settings):
    async with worker.open(settings):
        encrypted = worker.queue.cipher.encrypt(TOKEN)
        assert worker.queue.cipher.decrypt(encrypted) == TOKEN

    changed = settings.model_copy(update={"secret_key": SecretStr("y" * 32)})
    async with worker.open(changed):
        with pytest.raises(PermanentError, match="SECRET_KEY_PREVIOUS"):
            worker.queue.cipher.decrypt(encrypted)

    both = changed.model_copy(update={"secret_key_previous": settings.secret_key})
    async with worker.open(both):
        assert worker.queue.cipher.decrypt(encrypted) == TOKEN
