"""What the compose file describes starts, with a real Redis, and the image's healthcheck tells whether it lives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy import files
from tests.e2e import harness
from tests.e2e.harness import Proxy
from tests.redis_server import redis_server


def redis_options() -> list[str]:
    """Those with which the compose file starts Redis."""
    (command,) = re.findall(r'command: (\["redis-server".*\])\n', files.COMPOSE.read_text())
    return [str(option) for option in json.loads(command)[1:]]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with redis_server(*redis_options()) as redis:
        environment = files.compose_environment(CRATES_PROXY_CONTACT="ops@example.org")
        # Only where things are differs from the container.
        environment["CRATES_PROXY_CACHE__DIR"] = str(tmp_path / "cache")
        environment["CRATES_PROXY_REDIS__URL"] = redis.url
        with harness.proxy(tmp_path / "proxy", environment) as started:
            yield started


def healthcheck(url: str) -> int:
    python, *arguments = files.command("HEALTHCHECK")
    assert python == "python"
    environment = {"CRATES_PROXY_SERVER__PORT": str(httpx.URL(url).port)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, stderr=subprocess.DEVNULL, timeout=20, check=False
    ).returncode


def test_it_starts_and_is_healthy_until_it_is_stopped(proxy: Proxy) -> None:
    with httpx.Client(base_url=proxy.url.replace("0.0.0.0", "127.0.0.1"), trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "redis: ok" in ready.text
        assert client.get("/index/config.json").json()["api"] == str(client.base_url).rstrip("/")
    warnings = [line for line in proxy.log.splitlines() if "WARNING" in line]
    assert [line for line in warnings if "server.public_url" not in line] == [], "only the operator knows the name"
    assert healthcheck(proxy.url) == 0
    assert proxy.stop() == 0
    assert healthcheck(proxy.url) != 0
