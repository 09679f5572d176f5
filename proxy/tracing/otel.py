"""Traces by OpenTelemetry: a span for each request, and one for each request upstream, its child.

The names of what is told are those of its semantic conventions for HTTP; what they have no word for begins with
`crates_proxy.`. No field of a request is told, no query and nothing of a path that is secret. How spans are sampled,
batched and sent is the SDK's, as OTEL_* says.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from proxy import __version__
from proxy.model import Host
from proxy.rules import secrets
from proxy.tracing.base import Seen
from proxy.upstream.base import Answer, Ask, Upstream, Wrapper

NAME = "crates-proxy"
LAST_WORD = 3.0
"""Seconds that sending the last spans may take when the proxy stops: a collector that is down keeps nobody."""

_PROBES = frozenset(("/healthz", "/readyz", "/metrics"))


class OtelTracing:
    on = True

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._provider = TracerProvider(resource=_resource(environ), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME, __version__)

    @contextlib.contextmanager
    def answering(self, scope: Mapping[str, Any], seen: Seen) -> Iterator[None]:
        if scope["path"] in _PROBES:
            yield
            return
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        with self._tracer.start_as_current_span(
            method,
            context=propagate.extract(fields),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": scope["scheme"]},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                _tell(span, method, seen)

    def around(self, upstream: Upstream, origins: Mapping[Host, str]) -> Upstream:
        return _TracedUpstream(upstream, self._tracer, origins)

    async def aclose(self) -> None:
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, LAST_WORD)


def _resource(environ: Mapping[str, str]) -> Resource:
    """Who tells: the environment has the last word on the name."""
    told = Resource.create({SERVICE_VERSION: __version__})
    named = environ.get("OTEL_SERVICE_NAME") or f"{SERVICE_NAME}=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return told if named else told.merge(Resource({SERVICE_NAME: NAME}))


def _tell(span: Span, method: str, seen: Seen) -> None:
    if seen.path.startswith("/"):  # else it was refused before anybody could tell what it names
        span.set_attribute("url.path", secrets.path(seen.path))
    if seen.endpoint:
        span.update_name(f"{method} {seen.endpoint}")
        span.set_attribute("crates_proxy.endpoint", seen.endpoint)
        span.set_attribute("crates_proxy.verdict", seen.verdict.value)
        span.set_attribute("crates_proxy.collapsed", seen.collapsed)
    if seen.status:
        span.set_attribute("http.response.status_code", seen.status)
        span.set_attribute("http.response.body.size", seen.size)
    if seen.status >= 500:
        _failed(span, str(seen.status))


def _failed(span: Span, why: str) -> None:
    span.set_attribute("error.type", why)
    span.set_status(StatusCode.ERROR)


class _TracedUpstream:
    """A wrapper with the shape of what it wraps. A span ends with the body."""

    def __init__(self, inner: Upstream, tracer: Tracer, origins: Mapping[Host, str]) -> None:
        self._inner = inner
        self._tracer = tracer
        self._origins = origins

    async def send(self, ask: Ask) -> Answer:
        path = secrets.path(ask.target.partition("?")[0])
        span = self._tracer.start_span(
            f"{ask.method} {ask.endpoint or ask.host.value}",
            kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": ask.method,
                "url.full": f"{self._origins[ask.host]}{path}",
                "crates_proxy.host": ask.host.value,
                "crates_proxy.endpoint": ask.endpoint,
            },
        )
        try:
            answer = await self._inner.send(ask)
        except BaseException as error:
            _failed(span, type(error).__name__)
            span.end()
            raise
        status = answer.head.status
        span.set_attribute("http.response.status_code", status)
        if status >= 400:
            _failed(span, str(status))
        return _TracedAnswer(answer, span)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _TracedAnswer(Wrapper):
    def __init__(self, answer: Answer, span: Span) -> None:
        super().__init__(answer)
        self._span = span
        self._size = 0

    async def body(self) -> AsyncGenerator[bytes]:
        try:
            async with contextlib.aclosing(self._answer.body()) as pieces:
                async for piece in pieces:
                    self._size += len(piece)
                    yield piece
        except Exception as error:
            _failed(self._span, type(error).__name__)
            raise

    async def aclose(self) -> None:
        if self._span.is_recording():  # whoever got it may close it twice
            self._span.set_attribute("http.response.body.size", self._size)
            self._span.end()
        await super().aclose()
