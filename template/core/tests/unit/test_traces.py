"""Spans are cleaned, sampled, and carried by messages."""

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision
from opentelemetry.trace import SpanKind, Status, StatusCode

from core.logging import mask_texts, start_masking
from core.tasks.errors import BadMessage
from core.tasks.message import Message, Signer
from core.traces.cleaning import clean
from core.traces.sampling import InTraceSampler
from core.traces.spans import read_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = f"00-{TRACE}-b7ad6b7169203331-01"


def test_a_span_is_masked_as_log_lines_are():
    mask_texts(["tok-5ecret"])
    span = ReadableSpan(
        "pay tok-5ecret",
        attributes={"note": "tok-5ecret", "all": ["a", "tok-5ecret"], "number": 7},
        events=[Event("exception", {"exception.message": "no token tok-5ecret"})],
        status=Status(StatusCode.ERROR, "ValueError: tok-5ecret"),
    )
    cleaned = clean(span)
    start_masking()
    assert cleaned.name == "pay ***"
    assert dict(cleaned.attributes or {}) == {"note": "***", "all": ["a", "***"], "number": 7}
    assert (cleaned.events[0].attributes or {})["exception.message"] == "no token ***"
    assert cleaned.status.description == "ValueError: ***"


def test_a_span_has_no_query_and_no_address_of_a_client():
    attributes = {
        "http.url": "http://test/confirm?token=t",
        "http.target": "/confirm?token=t",
        "url.full": "http://test/confirm#token=t",
        "url.path": "/confirm",
        "url.query": "token=t",
        "client.address": "192.0.2.7",
        "net.peer.ip": "192.0.2.7",
        "question": "why?",
    }
    assert dict(clean(ReadableSpan("GET", attributes=attributes)).attributes or {}) == {
        "http.url": "http://test/confirm",
        "http.target": "/confirm",
        "url.full": "http://test/confirm",
        "url.path": "/confirm",
        "question": "why?",
    }


def test_only_calls_in_a_trace_are_kept():
    sampler = InTraceSampler(ALWAYS_ON)

    def decide(context: Context, kind: SpanKind) -> Decision:
        return sampler.should_sample(context, 1, "name", kind).decision

    assert decide(Context(), SpanKind.CLIENT) is Decision.DROP
    assert decide(Context(), SpanKind.SERVER) is Decision.RECORD_AND_SAMPLE
    assert decide(read_traceparent(SPAN), SpanKind.CLIENT) is Decision.RECORD_AND_SAMPLE
    sampler = InTraceSampler(ALWAYS_OFF)
    assert decide(Context(), SpanKind.SERVER) is Decision.DROP


def test_a_message_carries_the_span_and_its_signature_covers_it():
    signer = Signer(["x" * 32])
    plain = Message(id="1", task="ship", correlation_id="1", enqueued_at=1.0)
    traced = Message(id="1", task="ship", correlation_id="1", enqueued_at=1.0, traceparent=SPAN)
    assert b"traceparent" not in signer.dump(plain)  # as every message before traces
    assert signer.load("1", signer.dump(plain)).traceparent is None
    body = signer.dump(traced)
    assert signer.load("1", body).traceparent == SPAN
    forged = body.replace(b"b7ad6b71", b"b7ad6b72")
    with pytest.raises(BadMessage, match="signature"):
        signer.load("1", forged)


@pytest.mark.parametrize("text", [None, "", "x", SPAN[:-3], SPAN.replace(TRACE, 32 * "0")])
def test_a_text_that_is_no_span_is_no_parent(text):
    assert read_traceparent(text) == {}
