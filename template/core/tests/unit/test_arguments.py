"""Jobs that were enqueued before their task's parameters changed."""

import pytest

from core.tasks.arguments import Arguments
from core.tasks.errors import InvalidArguments
from core.tests.running import nest


def hold(value: list[object]) -> None: ...


async def send(number: int, *, salt: bytes = b"\xff", self: str = "", _x: float = 0.5) -> None: ...


def test_a_job_gets_the_defaults_of_new_parameters():
    arguments = Arguments("send", send)
    assert arguments.load({"number": 1}) == {"number": 1, "salt": b"\xff", "self": "", "_x": 0.5}
    dumped = arguments.dump((2,), {"_x": float("inf")})
    assert arguments.load(dumped)["_x"] == float("inf")
    assert arguments.load(dumped)["salt"] == b"\xff"


def test_a_job_that_no_longer_fits_names_the_parameter():
    arguments = Arguments("send", send)
    with pytest.raises(InvalidArguments, match="task send: it no longer takes user"):
        arguments.load({"number": 1, "user": "ada"})
    with pytest.raises(InvalidArguments, match="task send: it now also needs number"):
        arguments.load({})
    with pytest.raises(InvalidArguments, match=r"task send: parameter number: .*integer"):
        arguments.load({"number": "one"})


def test_arguments_that_no_message_can_hold_are_refused():
    arguments = Arguments("hold", hold)
    assert arguments.load(arguments.dump((nest(150),), {})) == {"value": nest(150)}
    with pytest.raises(InvalidArguments, match=r"task hold: .*recursion limit"):
        arguments.dump((nest(199),), {})
