"""A small collector: it takes spans over OTLP/HTTP, and notes the headers of other requests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Span:
    """A span as it arrived."""

    name: str
    id: str
    trace: str
    parent: str
    links: list[str]
    kind: int
    status: int
    attributes: dict[str, Any]
    process: dict[str, Any]


@dataclass
class Receiver:
    """The spans that have arrived, the bytes of their requests, and headers by path."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    content: bytes = b""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, name: str, **attributes: Any) -> list[Span]:
        """Return the spans with this name and these attributes, in the order of their start."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            span
            for span in self.spans
            if span.name == name and wanted.items() <= span.attributes.items()
        ]

    def one(self, name: str, **attributes: Any) -> Span:
        found = self.find(name, **attributes)
        names = sorted((span.name, span.attributes.get("job.attempt")) for span in self.spans)
        assert len(found) == 1, (name, attributes, found, names)
        return found[0]

    def children(self, span: Span) -> list[Span]:
        return [each for each in self.spans if each.parent == span.id]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a collector on a free port for a block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.content += body
            receiver.spans += _read(body)
            self._answer()

        def do_GET(self) -> None:
            receiver.headers[self.path] = {
                name.lower(): value for name, value in self.headers.items()
            }
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


def _read(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        process = _to_dict(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.span_id.hex(),
                    span.trace_id.hex(),
                    span.parent_span_id.hex(),
                    [link.span_id.hex() for link in span.links],
                    span.kind,
                    span.status.code,
                    _to_dict(span.attributes),
                    process,
                )


def _to_dict(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
