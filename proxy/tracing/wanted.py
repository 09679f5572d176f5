"""Whether traces are wanted, by OpenTelemetry's own variables. What those say beyond that, its SDK reads itself.

It differs from the SDK in one thing: where no variable names an exporter or an endpoint, there are no traces, rather
than some that go to a collector on this machine which nobody has set up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

EXTRA = "pip install -c requirements.lock '.[otel]'"
"""How it comes, from where this program came from."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"


@dataclass(frozen=True, slots=True)
class Wish:
    """`on`: there are to be traces, and there can be. `problem`: why there are none although somebody wants them."""

    on: bool
    problem: str = ""


def installed() -> bool:
    """Whether the extra is there."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ImportError:
        return False


def wish(environ: Mapping[str, str], installed: bool) -> Wish:
    """What the environment asks for, where the extra is `installed` or is not."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip() or ("otlp" if _first(environ, _ENDPOINTS) else "none")
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return Wish(False)
    if exporter != "otlp":
        return Wish(False, f"OTEL_TRACES_EXPORTER={exporter}: no traces are sent; only otlp can be had")
    name = _first(environ, _PROTOCOLS)
    if name and environ[name].strip() != _SPOKEN:
        return Wish(False, f"{name}={environ[name].strip()}: no traces are sent; only {_SPOKEN} is spoken")
    if not installed:
        return Wish(False, f"OTEL_* asks for traces, which need an extra; {EXTRA}")
    return Wish(True)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first of these variables that says something; "" where none does."""
    return next((name for name in names if environ.get(name, "").strip()), "")
