"""A collector of traces: it takes OTLP over HTTP on a real socket, and shows the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

SERVER, CLIENT = 2, 3  # SpanKind of OTLP
ERROR = 2  # its StatusCode


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    failed: bool
    told: dict[str, str | int | bool]


@dataclass
class Collector:
    """`raw`: all bytes that came, unpacked."""

    url: str
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = str(_told(resource.resource.attributes).get("service.name"))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            service=service,
                            name=span.name,
                            kind=span.kind,
                            trace=span.trace_id.hex(),
                            id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            failed=span.status.code == ERROR,
                            told=_told(span.attributes),
                        )
                    )

    def only(self, kind: int, name: str) -> Span:
        (found,) = [span for span in self.spans if (span.kind, span.name) == (kind, name)]
        return found


def _told(attributes: Iterator[KeyValue] | list[KeyValue]) -> dict[str, str | int | bool]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> str | int | bool:
    kind = value.WhichOneof("value")
    assert kind in ("string_value", "int_value", "bool_value"), kind
    found: str | int | bool = getattr(value, kind)
    return found


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            taken.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
