"""What a collector hears of a server: one span a request, and its children upstream."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e import harness
from tests.tracing.collector import CLIENT, SERVER, collector
from tests.upstream import Upstream, faults

CRATE, INDEX = "/api/v1/crates/leaf", "/index/le/af/leaf"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "cio" + "s3cr3t" * 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_and_what_it_caused_upstream_are_one_trace(tmp_path: Path, workers: str) -> None:
    with Upstream.running() as upstream, collector() as heard:
        environ = {**upstream.settings_env(), "OTEL_EXPORTER_OTLP_ENDPOINT": heard.url}
        with harness.proxy(tmp_path, {**environ, "CRATES_PROXY_SERVER__WORKERS": workers}) as proxy:
            assert "traces=otlp" in proxy.log
            with httpx.Client(base_url=proxy.url, trust_env=False) as client:
                assert client.get(CRATE, headers={"traceparent": CALLER}).headers["x-cache"] == "MISS"
                size = len(client.get(INDEX).content)
                assert client.get(INDEX).headers["x-cache"] == "HIT"
                assert client.get("/healthz").status_code == 200
            # The first byte of an answer does not wait for the collector; the last spans leave with the server.
            assert proxy.stop() == 0
    asked = heard.only(SERVER, "GET crate")
    assert (asked.trace, asked.parent) == (CALLER.split("-")[1], CALLER.split("-")[2])
    assert asked.service == "crates-proxy" and not asked.failed
    assert asked.told.items() >= {
        ("http.request.method", "GET"),
        ("url.path", CRATE),
        ("http.response.status_code", 200),
        ("crates_proxy.endpoint", "crate"),
        ("crates_proxy.verdict", "miss"),
        ("crates_proxy.collapsed", False),
    }
    # Its index file is asked for too, so that the answer can be renewed by it.
    caused = {span.name: span for span in heard.spans if span.parent == asked.id}
    assert set(caused) == {"GET crate", "GET index"} and {span.trace for span in caused.values()} == {asked.trace}
    assert {span.kind for span in caused.values()} == {CLIENT}
    assert caused["GET crate"].told.items() >= {
        ("http.request.method", "GET"),
        ("url.full", f"{upstream.api}{CRATE}"),
        ("http.response.status_code", 200),
        ("crates_proxy.host", "api"),
    }
    read = [span for span in heard.spans if (span.kind, span.name) == (SERVER, "GET index")]
    assert [span.told["crates_proxy.verdict"] for span in read] == ["hit", "hit"]
    assert {span.told["http.response.body.size"] for span in read} == {size}
    assert all(span.parent == "" for span in read)
    assert not [span for span in heard.spans if "healthz" in str(span.told)]


def test_what_fails_upstream_is_told_as_failed(tmp_path: Path) -> None:
    with Upstream.running() as upstream, collector() as heard:
        environ = {**upstream.settings_env(), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{heard.url}/v1/traces"}
        with harness.proxy(tmp_path, {**environ, "OTEL_SERVICE_NAME": "crates-of-ours"}) as proxy:
            upstream.fault("api/v1/crates/ok", faults.Status(500))
            upstream.fault("api/v1/crates/abc", faults.Reset())
            with httpx.Client(base_url=proxy.url, trust_env=False) as client:
                assert client.get("/api/v1/crates/ok").status_code == 502
                assert client.get("/api/v1/crates/abc").status_code == 502
                assert client.get("/api/v1/crates/nope").status_code == 404
            assert proxy.stop() == 0
    assert {span.service for span in heard.spans} == {"crates-of-ours"}
    answered = {span.told["url.path"]: span for span in heard.spans if span.kind == SERVER}
    assert [(path, span.failed) for path, span in answered.items()] == [
        ("/api/v1/crates/ok", True),
        ("/api/v1/crates/abc", True),
        ("/api/v1/crates/nope", False),
    ]
    why = {span.told["error.type"] for span in heard.spans if span.kind == CLIENT and span.failed}
    assert why >= {"500", "Faulty", "404"}


def test_no_token_and_no_query_is_told(tmp_path: Path) -> None:
    with Upstream.running() as upstream, collector() as heard:
        environ = {**upstream.settings_env(), "OTEL_EXPORTER_OTLP_ENDPOINT": heard.url}
        with harness.proxy(tmp_path, environ) as proxy, httpx.Client(base_url=proxy.url, trust_env=False) as client:
            fields = {"authorization": SECRET, "cookie": f"session={SECRET}", "x-other": SECRET}
            client.get(f"/api/v1/crates?q={SECRET}", headers=fields)
            client.get("/api/v1/me", headers=fields)
            client.get(f"/api/v1/me/crate_owner_invitations/accept/{SECRET}")
            client.get(f"/api/v1/confirm/{SECRET[3:]}")
            client.put("/api/v1/crates/leaf/1.0.0/unyank", headers=fields)
            assert proxy.stop() == 0
    names = {(span.kind, span.name) for span in heard.spans}
    assert names >= {(kind, name) for kind in (SERVER, CLIENT) for name in ("GET search", "GET private", "PUT unyank")}
    assert SECRET.encode() not in heard.raw and SECRET[3:].encode() not in heard.raw and b"?q" not in heard.raw


def test_a_collector_that_is_down_delays_neither_answers_nor_the_end(tmp_path: Path) -> None:
    with Upstream.running() as upstream:
        environ = {**upstream.settings_env(), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
        with harness.proxy(tmp_path, environ) as proxy:
            assert httpx.get(f"{proxy.url}{CRATE}", trust_env=False).status_code == 200
            assert proxy.stop() == 0  # within the harness's patience, half of what the SDK would wait


@pytest.mark.parametrize("wrong", [("OTEL_PROPAGATORS", "zipzap"), ("OTEL_BSP_MAX_QUEUE_SIZE", "-1")])
def test_a_variable_that_the_sdk_refuses_is_told_in_a_line(tmp_path: Path, wrong: tuple[str, str]) -> None:
    environ = dict([("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), wrong])
    with pytest.raises(AssertionError, match=r"(?s)exit 1.*did not start: OTEL_\*: there can be no traces"):
        harness.Proxy(tmp_path, environ).start()
    assert "Traceback" not in (tmp_path / "proxy.log").read_text()


def test_without_the_extra_it_serves_and_says_what_is_missing(tmp_path: Path) -> None:
    missing = tmp_path / "without/opentelemetry"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('not installed')\n")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": str(missing.parent)}
    with harness.proxy(tmp_path / "proxy", environ) as proxy:
        assert httpx.get(f"{proxy.url}/healthz", trust_env=False).status_code == 200
        assert "pip install -c requirements.lock '.[otel]'" in proxy.log and "traces=none" in proxy.log
        assert "Traceback" not in proxy.log


def test_what_sends_spans_is_not_imported_where_nobody_wants_them() -> None:
    # redis-py imports the SDK's metrics by itself wherever it finds them.
    sending = "('proxy.tracing.otel', 'opentelemetry.exporter')"
    program = (
        f"import sys, proxy.cli, proxy.web.app; print([each for each in sys.modules if each.startswith({sending})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=harness.ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr
