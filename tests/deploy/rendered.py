"""Renders the chart with helm's own code, and validates what comes out: run by a Python that has helm-sdkpy and
kubernetes-validate, `python rendered.py CHART < VALUES.json > OBJECTS.json`.

helm installs into a cluster that is a few lines long: it knows the kinds of the chart, has nothing, and notes what
it is given. Exit status 1 and a line on stderr where helm or a Kubernetes schema refuses.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import helm_sdkpy
import kubernetes_validate

KINDS = {
    "v1": ["Service", "Secret", "PersistentVolumeClaim"],
    "apps/v1": ["StatefulSet"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["Ingress"],
    "monitoring.coreos.com/v1": ["ServiceMonitor"],
}
KUBERNETES = "1.32"
SCHEMALESS = {"ServiceMonitor"}  # kinds of operators, which Kubernetes' own schemas do not know


def plural(kind: str) -> str:
    return kind.lower() + ("es" if kind.endswith("s") else "s")


class Cluster(BaseHTTPRequestHandler):
    given: list[dict[str, Any]] = []

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["version"]:
            self._say(200, {"major": "1", "minor": KUBERNETES.partition(".")[2], "gitVersion": f"v{KUBERNETES}.0"})
        elif parts == ["api"]:
            self._say(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif parts == ["apis"]:
            self._say(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*map(_group, _groups())]})
        elif (version := "/".join(parts[1:])) in KINDS and len(parts) <= 3:
            resources = [
                {"name": plural(kind), "singularName": "", "namespaced": True, "kind": kind, "verbs": ["create", "get"]}
                for kind in KINDS[version]
            ]
            self._say(
                200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
            )
        elif parts[-1] in ("secrets", "configmaps"):
            self._say(200, {"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            self._say(
                404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            )

    def do_POST(self) -> None:
        self._take(201)

    def do_PUT(self) -> None:
        self._take(200)

    def do_PATCH(self) -> None:
        self._take(200)

    def log_message(self, *_: object) -> None:
        pass

    def _take(self, status: int) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body.startswith(b"k8s\0"):  # helm keeps its own record in a secret, as protobuf: given back as it came
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.kubernetes.protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        document = json.loads(body)
        if not (document["kind"] == "Secret" and document.get("type", "").startswith("helm.sh/")):
            self.given.append(document)
        self._say(status, document)

    def _say(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _groups() -> list[str]:
    return [version for version in KINDS if "/" in version]


def _group(version: str) -> dict[str, Any]:
    found = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [found], "preferredVersion": found}


def kubeconfig(port: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "it",
        }
    )


def main(chart: str) -> int:
    values = json.load(sys.stdin)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(kubeconfig(server.server_port))
        file.flush()
        try:
            with helm_sdkpy.Configuration(namespace="builds", kubeconfig=file.name) as configuration:
                asyncio.run(_installed(configuration, chart, values))
        except helm_sdkpy.HelmError as error:
            print(error, file=sys.stderr)
            return 1
    refused = 0
    for document in Cluster.given:
        if document["kind"] in SCHEMALESS:
            continue
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            refused += 1
            print(f"{document['kind']} {document['metadata']['name']}: {error.message}", file=sys.stderr)
    json.dump(Cluster.given, sys.stdout)
    return 1 if refused else 0


async def _installed(configuration: Any, chart: str, values: dict[str, Any]) -> None:
    linted = await helm_sdkpy.Lint(configuration).run(chart)
    print(linted, file=sys.stderr)
    found = await helm_sdkpy.Install(configuration).run("mirror", chart, values=values, wait=False)
    print(str(found)[:300], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
