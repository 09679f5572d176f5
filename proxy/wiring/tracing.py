"""Builds the traces of a server, where the environment asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from proxy.errors import SettingsError
from proxy.settings import Settings
from proxy.tracing import wanted
from proxy.tracing.base import Tracing, Untraced
from proxy.upstream.base import Upstream
from proxy.wiring.reach import Reach, origins, over_http


@contextlib.asynccontextmanager
async def traced(environ: Mapping[str, str]) -> AsyncIterator[Tracing]:
    """Traces until the context ends. OpenTelemetry is imported where they are wanted, and nowhere else.

    Raises `SettingsError` where its variables say what it does not understand."""
    tracing: Tracing = Untraced()
    if wanted.wish(environ, wanted.installed()).on:
        try:
            from proxy.tracing.otel import OtelTracing

            tracing = OtelTracing(environ)
        except ValueError as error:
            raise SettingsError([f"OTEL_*: there can be no traces: {error}"]) from error
    try:
        yield tracing
    finally:
        await tracing.aclose()


def reached(tracing: Tracing, reach: Reach | None) -> Reach:
    """The way to crates.io, of which `tracing` is told: what lies nearest to the connections."""

    def built(settings: Settings) -> Upstream:
        return tracing.around((reach or over_http)(settings), origins(settings))

    return built
