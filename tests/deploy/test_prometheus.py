"""A real Prometheus scrapes a real server, loads the alert rules, and is asked what the dashboard asks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import test_observing as observing
from tests.deploy.files import ROOT
from tests.e2e import harness
from tests.e2e.test_front import free_port, program
from tests.upstream import Upstream
from tests.waiting import came

SCRAPES = """
global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: crates-proxy
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """What it answers, once it succeeds; None until then."""
        try:
            answer = httpx.get(f"{self._url}/api/v1/{path}", params=parameters, trust_env=False, timeout=20)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None

    def value(self, expression: str) -> list[Any]:
        found = self.get("query", query=expression)
        assert found is not None, expression
        return list(found["result"])


def family(name: str) -> str:
    """What a sample belongs to."""
    return re.sub("_(bucket|sum|count|total)$", "", name)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    """It has scraped a server that has been asked for something."""
    with Upstream.running() as upstream, harness.proxy(tmp_path / "proxy", upstream.settings_env()) as proxy:
        for path in (
            "/api/v1/crates/leaf",
            "/index/le/af/leaf",
            "/index/le/af/leaf",
            "/api/v1/crates/leaf/1.0.0/download",
        ):
            assert httpx.get(proxy.url + path, trust_env=False).status_code == 200
        port = free_port()
        target = proxy.url.removeprefix("http://")
        config = tmp_path / "prometheus.yml"
        config.write_text(SCRAPES.format(rules=ROOT / "deploy/alerts.yaml", target=target))
        command = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            started = Prometheus(f"http://127.0.0.1:{port}")
            scraped = 'count(up{job="crates-proxy"} == 1)'
            assert came(lambda: (started.get("query", query=scraped) or {}).get("result"), 60.0), (
                tmp_path / "log"
            ).read_text()
            yield started
        finally:
            process.terminate()
            process.wait(20)


def test_every_rule_and_every_panel_is_evaluated_on_what_is_scraped(prometheus: Prometheus) -> None:
    def evaluated() -> list[Any]:
        groups = (prometheus.get("rules") or {"groups": []})["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] == "ok"]

    assert came(lambda: len(evaluated()) == len(observing.RULES)), prometheus.get("rules")
    assert [rule["name"] for rule in evaluated() if rule["state"] == "firing"] == []

    families = {"up", *map(family, prometheus.get("metadata"))}
    for where, expression in observing.expressions():
        plain = expression.replace("$__rate_interval", "5m").replace("$__range", "6h").replace("$job", "crates-proxy.*")
        prometheus.value(plain)
        asked = {family(name) for name, _ in observing.selectors(expression)}
        assert asked - families <= {"crates_proxy_collapsed"}, where  # that takes several at once

    for answered, expression in (
        ("4", "sum(crates_proxy_requests_total)"),
        ("1", 'crates_proxy_store_entries{store="tarball"}'),
        ("0", "max(crates_proxy_upstream_hold_seconds)"),
    ):
        assert [each["value"][1] for each in prometheus.value(expression)] == [answered], expression
