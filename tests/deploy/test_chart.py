"""The chart, rendered by helm itself and validated against the schemas of Kubernetes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy import settings
from proxy.rules.endpoints import TIMED
from tests.deploy import files

RENDERED = Path(__file__).with_name("rendered.py")
NEEDS = ("helm-sdkpy==0.1.32", "kubernetes-validate==1.37.0")
LEAST = {"contact": "ops@example.org"}
FULL = {
    **LEAST,
    "publicUrl": "https://crates.example.org",
    "replicas": 3,
    "env": {"CRATES_PROXY_CACHE__MEMORY": "256MiB"},
    "adminTokenSecret": "admin",
    "ingress": {"enabled": True, "tlsSecret": "tls"},
    "serviceMonitor": {"enabled": True},
}

Objects = dict[tuple[str, str], Any]


def python() -> str:
    """A Python that helm's package supports: 3.12 or later. CI must have it."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    here = [sys.executable] if sys.version_info >= (3, 12) else []
    named = [shutil.which(f"python3.{minor}") for minor in (14, 13, 12)]
    for found in (*here, *named, *sorted(map(str, versions.glob("3.1[2-9]*/bin/python3")))):
        if found and subprocess.run([found, "-c", "import venv, ensurepip"], check=False).returncode == 0:
            return found
    if os.environ.get("CI") == "true":
        pytest.fail("no Python 3.12 or later, which helm-sdkpy needs")
    pytest.skip("no Python 3.12 or later, which helm-sdkpy needs")


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has helm."""
    folder = tmp_path_factory.mktemp("helm")
    subprocess.run([python(), "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", *NEEDS], check=True, stderr=subprocess.DEVNULL)
    return str(folder / "bin/python")


def ran(helm: str, values: object) -> subprocess.CompletedProcess[str]:
    command = [helm, str(RENDERED), str(files.CHART)]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, timeout=120, check=False)


def objects(helm: str, values: object) -> Objects:
    done = ran(helm, values)
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in json.loads(done.stdout)}


def container(found: Objects) -> Any:
    (one,) = found["StatefulSet", "mirror-crates-proxy"]["spec"]["template"]["spec"]["containers"]
    return one


def environment(found: Objects) -> dict[str, str]:
    return {each["name"]: each.get("value", "from-a-secret") for each in container(found)["env"]}


def test_one_replica_needs_nothing_beside_it(helm: str) -> None:
    found = objects(helm, LEAST)
    assert set(found) == {
        ("StatefulSet", "mirror-crates-proxy"),
        ("Service", "mirror-crates-proxy"),
        ("Service", "mirror-crates-proxy-replicas"),
    }
    loaded = settings.load({}, None, environment(found), endpoints=TIMED).settings
    assert loaded.redis.url == ""
    assert loaded.upstream.contact == "ops@example.org"
    assert "mirror-crates-proxy.builds.svc" in loaded.server.hosts


def test_several_replicas_share_a_redis_that_persists(helm: str) -> None:
    found = objects(helm, FULL)
    assert found["StatefulSet", "mirror-crates-proxy"]["spec"]["replicas"] == 3
    assert found["PodDisruptionBudget", "mirror-crates-proxy"]["spec"]["maxUnavailable"] == 1
    redis = found["StatefulSet", "mirror-crates-proxy-redis"]["spec"]
    command = redis["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert redis["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "1Gi"
    told = environment(found)
    assert told["CRATES_PROXY_ACCESS__ADMIN_TOKEN"] == "from-a-secret"
    loaded = settings.load({}, None, told, endpoints=TIMED)
    assert loaded.notes == ()
    assert loaded.settings.redis.url == "redis://mirror-crates-proxy-redis:6379/0"
    assert ("Service", "mirror-crates-proxy-redis") in found
    assert loaded.settings.cache.memory == 256 * 2**20


def test_a_redis_of_ones_own_is_used(helm: str) -> None:
    found = objects(helm, {**FULL, "redis": {"url": "rediss://redis.example.org/1"}})
    assert environment(found)["CRATES_PROXY_REDIS__URL"] == "rediss://redis.example.org/1"
    assert ("StatefulSet", "mirror-crates-proxy-redis") not in found


def test_the_pod_has_no_privileges_and_no_variables_of_other_services(helm: str) -> None:
    found = objects(helm, FULL)
    for name in ("mirror-crates-proxy", "mirror-crates-proxy-redis"):
        pod = found["StatefulSet", name]["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        (one,) = pod["containers"]
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["resources"]["limits"]["memory"]


def test_the_probes_ask_what_the_proxy_answers(helm: str) -> None:
    one = container(objects(helm, LEAST))
    paths = {name: one[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert [port["containerPort"] for port in one["ports"]] == [8080]


def test_services_and_the_monitor_choose_the_proxy_alone(helm: str) -> None:
    found = objects(helm, FULL)
    proxies = found["StatefulSet", "mirror-crates-proxy"]["spec"]["template"]["metadata"]["labels"]
    redis = found["StatefulSet", "mirror-crates-proxy-redis"]["spec"]["template"]["metadata"]["labels"]
    for name in ("mirror-crates-proxy", "mirror-crates-proxy-replicas"):
        chosen = found["Service", name]["spec"]["selector"].items()
        assert chosen <= proxies.items()
        assert not chosen <= redis.items()
    monitored = found["ServiceMonitor", "mirror-crates-proxy"]["spec"]
    labels = [
        name
        for (kind, name), each in found.items()
        if kind == "Service" and monitored["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert labels == ["mirror-crates-proxy"], "no replica is counted twice"
    assert monitored["endpoints"][0]["path"] == "/metrics"


def test_without_a_contact_it_is_refused(helm: str) -> None:
    done = ran(helm, {})
    assert done.returncode == 1
    assert "contact: an address or URL at which crates.io can reach you" in done.stderr


def test_a_value_of_a_wrong_type_is_found(helm: str) -> None:
    done = ran(helm, {**LEAST, "resources": {"limits": "1Gi"}})
    assert done.returncode == 1
    assert "StatefulSet" in done.stderr
