"""When there are traces, by the variables of OpenTelemetry."""

from __future__ import annotations

import pytest

from proxy.tracing.wanted import EXTRA, installed, wish

AT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "crates", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        (AT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**AT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({**AT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**AT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_there_are_traces_where_a_variable_names_where_they_go(environ: dict[str, str], on: bool) -> None:
    assert (wish(environ, True).on, wish(environ, True).problem) == (on, "")
    assert wish(environ, False).on is False
    assert (EXTRA in wish(environ, False).problem) == on


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {**AT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {**AT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_what_cannot_be_had_is_said_by_the_name_of_its_variable(environ: dict[str, str]) -> None:
    refused = wish(environ, True)
    assert not refused.on and refused.problem.startswith("OTEL_") and "; only " in refused.problem


def test_the_extra_is_there_for_the_tests() -> None:
    assert installed()
