"""The decoder of messages refuses random, altered and forged messages."""

import hmac
from hashlib import blake2b, sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from core.tasks.engines import DEFAULT  # noqa: TID251
from core.tasks.errors import BadMessage  # noqa: TID251
from core.tasks.message import SIGNATURE_BYTES, Message, Signer  # noqa: TID251

pytestmark = pytest.mark.skipif(
    DEFAULT != "local", reason="the decoder is the same without the job queue, and is tested there"
)

CASES = 3_500  # for each of the three tests
SIGNER = Signer(["s" * 32])
MESSAGE = Message(
    id="id",
    task="task",
    correlation_id="correlation",
    enqueued_at=1.0,
    arguments={"value": 1},
    owner="owner",
)
GENUINE = SIGNER.dump(MESSAGE)
KEY = hmac.digest(b"s" * 32, b"groundwork.message", sha256)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    ["v", "id", "task", "arguments", "correlation_id", "owner", "enqueued_at", "rest", "x"]
)


def sign(payload: bytes) -> bytes:
    """Sign a payload with the real key, as a service of another version would."""
    signed = len(MESSAGE.id).to_bytes(4, "big") + MESSAGE.id.encode() + payload
    return blake2b(signed, key=KEY, digest_size=SIGNATURE_BYTES).digest() + payload


@settings(max_examples=CASES, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(body):
    with pytest.raises(BadMessage):
        SIGNER.load(MESSAGE.id, body)


@settings(max_examples=CASES, deadline=None)
@given(st.integers(0, len(GENUINE) - 1), st.integers(0, 255), st.booleans())
def test_an_altered_message_is_refused(position, value, is_inserted):
    altered = GENUINE[:position] + bytes([value]) + GENUINE[position + (not is_inserted) :]
    if altered == GENUINE:
        return
    with pytest.raises(BadMessage):
        SIGNER.load(MESSAGE.id, altered)


@settings(max_examples=CASES, deadline=None)
@given(st.dictionaries(names, json_values, max_size=8) | json_values | st.binary(max_size=50))
def test_what_is_signed_and_makes_no_sense_is_refused(content):
    payload = content if isinstance(content, bytes) else to_json(content)
    try:
        message = SIGNER.load(MESSAGE.id, sign(payload))
    except BadMessage:
        return
    assert isinstance(message.id, str)
    assert isinstance(message.task, str)
    assert isinstance(message.arguments, dict)


def test_a_genuine_message_is_read_with_this_key_and_the_previous_one():
    assert SIGNER.load(MESSAGE.id, GENUINE) == MESSAGE
    with pytest.raises(BadMessage):
        SIGNER.load("other", GENUINE)
    assert Signer(["n" * 32, "s" * 32]).load("id", GENUINE) == MESSAGE
    with pytest.raises(BadMessage):
        Signer(["n" * 32]).load("id", GENUINE)
