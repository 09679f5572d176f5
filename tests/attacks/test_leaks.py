"""A secret goes where it is meant to go and nowhere else: each one that passes through, or is in the settings, is sent
by every route and through every failure, and then looked for wherever something could have been left of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis

from proxy.engine.passing import Passage
from proxy.model import Host
from proxy.rules import routes
from proxy.rules.endpoints import TABLE
from proxy.upstream.base import Ask
from proxy.web.request import Request
from tests.attacks.canary import canary, forms, told
from tests.e2e import harness
from tests.e2e.commands import ran
from tests.fuzz import whole
from tests.redis_server import redis_server
from tests.upstream import Source, Upstream, crates, faults

_VALUES = {
    "crate": "leaf",
    "version": "1.0.0",
    "sha256": "0" * 64,
    "id": "1",
    "keyword": "tiny",
    "category": "encoding",
    "login": "ferris",
    "team": "github:a:b",
    "index*": "le/af/leaf",
    "rest*": "1.0.0/what/ever",
}
OPERATORS = (
    *("/", "/history", "/search?q=leaf", "/crates/leaf", "/setup", "/healthz", "/readyz", "/metrics", "/-/stats"),
    *("/-/purge", "/-/nothing", "/index/config.json", "/nothing"),
)
WRONG: dict[str, faults.Fault] = {
    "an answer that is none": faults.Garbage(),
    "a reset": faults.Reset(),
    "a part of an answer": faults.Truncate(faults.At.MIDDLE),
    "a failure": faults.Status(500, (("retry-after", "1"),)),  # then there is no second attempt
    "a refusal": faults.Status(403),
    "a redirect": faults.Status(302, (("location", "https://example.org/"),), b""),
}


def _paths() -> Iterator[tuple[str, str]]:
    """A method and a path for each route of each row."""
    for row in TABLE:
        for template in row.paths:
            path = template
            for name, value in _VALUES.items():
                path = path.replace(f"{{{name}}}", value)
            for method in ["POST", "PUT"] if row.method == "*" else [row.method]:
                yield method, path
    yield from (("GET", path) for path in OPERATORS)


class Secrets:
    """One of each kind."""

    def __init__(self) -> None:
        self.token, self.bearer, self.basic, self.cookie = canary(), canary(), canary(), canary()
        self.upload, self.jwt, self.made, self.session = canary(), canary(), canary(), canary()
        self.invitation, self.mail = canary().replace("/", "-"), canary().replace("/", "-")
        self.wrong = canary()
        self.pasted = "cio" + hashlib.sha256(canary().encode()).hexdigest()[:32]  # as crates.io's look

    def fields(self) -> Iterator[dict[str, str]]:
        """The ways of showing who one is."""
        basic = base64.b64encode(f"user:{self.basic}".encode()).decode()
        yield {"authorization": self.token, "cookie": f"cargo_session={self.cookie}"}
        yield {"authorization": f"Bearer {self.bearer}", "proxy-authorization": f"Basic {basic}"}
        yield {"authorization": f"Basic {basic}", "x-api-key": self.token}


def everything(url: str, secrets: Secrets, *kinds: int) -> Iterator[tuple[str, httpx.Response]]:
    """Every route with these kinds of credentials; the answers, where there are any."""
    invitation = f"/api/v1/me/crate_owner_invitations/accept/{secrets.invitation}"
    publish = crates.publish_body(Source("newcomer", "0.1.0", description=secrets.upload))
    bodies: list[tuple[str, str, bytes]] = [(method, path, b"") for method, path in _paths()]
    bodies += [
        ("PUT", "/api/v1/crates/new", publish),
        ("PUT", "/api/v1/crates/new", publish[: len(publish) // 2]),
        ("POST", "/api/v1/trusted_publishing/tokens", json.dumps({"jwt": secrets.jwt}).encode()),
        ("PUT", "/api/v1/me/tokens", json.dumps({"api_token": {"name": secrets.jwt}}).encode()),
        ("PUT", invitation, b""),
        ("GET", invitation, b""),
        ("PUT", f"/api/v1/confirm/{secrets.mail}", b""),
        ("POST", "/-/purge", json.dumps({"crate": secrets.upload}).encode()),
        # Somebody takes the URL for the place of a token.
        ("GET", f"/api/v1/crates?token={secrets.pasted}", b""),
        ("GET", f"/api/v1/crates?{secrets.pasted}", b""),
        ("GET", f"/api/v1/crates/leaf?q=Bearer%20%63{secrets.pasted[1:]}", b""),
        ("GET", f"/api/v1/crates/{secrets.pasted}", b""),
        ("GET", f"/index/ci/o0/{secrets.pasted}", b""),
        ("GET", f"/api/v1/something/{secrets.pasted}", b""),
        ("GET", f"/crates/{secrets.pasted}", b""),
        ("GET", f"/search?q={secrets.pasted}", b""),
    ]
    with httpx.Client(timeout=30, trust_env=False) as client:
        for fields in [[*secrets.fields()][kind] for kind in kinds]:
            asked = [(method, path, NOTHING, body) for method, path, body in bodies]
            asked += [(method, path, more, b"") for method, path, more in REFUSED]
            for method, path, more, body in asked:
                client.cookies.clear()
                try:
                    yield path, client.request(method, url + path, headers={**fields, **more}, content=body)
                except httpx.TransportError:
                    continue  # broken off, as upstream did


NOTHING: dict[str, str] = {}
REFUSED = (
    ("GET", "/api/v1/me%2f", NOTHING),
    ("TRACE", "/api/v1/me", NOTHING),
    ("GET", "/api/v1/me", {"x-long": "a" * 40_000}),
    ("GET", "/api/v1/me", {"x-strange": "\x7f"}),
)


def _stored(server: Any) -> Iterator[tuple[str, bytes]]:
    """All keys and values of a Redis."""
    for key in server.scan_iter():
        kind = server.type(key).decode()
        readers: dict[str, Any] = {
            "string": server.get,
            "set": server.smembers,
            "hash": server.hgetall,
            "list": lambda key: server.lrange(key, 0, -1),
            "zset": lambda key: server.zrange(key, 0, -1, withscores=True),
        }
        yield f"the Redis key {key!r}", key + b" " + repr(readers[kind](key)).encode() + _raw(readers[kind](key))


def _raw(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in directory.rglob("*"):
        yield f"the name of {path}", str(path.relative_to(directory)).encode()
        if path.is_file():
            yield str(path), path.read_bytes()


def _told(answers: Iterator[tuple[str, httpx.Response]], secrets: Secrets) -> Iterator[tuple[str, bytes]]:
    """What clients were told in this proxy's own words: upstream's go to whoever asked for them."""
    for path, answer in answers:
        if answer.headers.get("x-cache") != "PASS":
            own_path = secrets.invitation in path or secrets.mail in path
            yield f"the answer to {path}", repr(answer.headers.raw).encode() + (b"" if own_path else answer.content)


COMMANDS = (["config"], ["config", "--json"], ["doctor"], ["stats", "--json"])


def test_no_secret_is_left_anywhere(tmp_path: Path) -> None:
    secrets = Secrets()
    admin, password, outbound = canary(), canary().replace("/", "-"), canary().replace("/", "-")
    named = {**vars(secrets), "the admin token": admin, "Redis' password": password, "the outbound proxy's": outbound}
    places: list[tuple[str, bytes]] = []
    with Upstream.running() as upstream, redis_server("--requirepass", password) as server:
        settings = {
            **upstream.settings_env(),
            "CRATES_PROXY_ACCESS__ADMIN_TOKEN": admin,
            "CRATES_PROXY_REDIS__URL": f"unix://:{quote(password, safe='')}@{server.socket}",
            "CRATES_PROXY_LOG__LEVEL": "debug",
            "CRATES_PROXY_LOG__ACCESS": "true",
            "CRATES_PROXY_STATS__CLIENT_HEADER": "X-Project",
        }
        broken_line = {
            "CRATES_PROXY_UPSTREAM__PROXY": f"http://user:{quote(outbound, safe='')}@127.0.0.1:9",
            "CRATES_PROXY_LOG__FORMAT": "json",
        }
        with harness.proxy(tmp_path, settings) as proxy:
            for number, fault in enumerate((None, *WRONG.values())):
                upstream.heal()
                if fault is None:
                    _generous(upstream, secrets)
                else:
                    upstream.fault(lambda _: True, fault)
                kinds = (0, 1, 2) if fault is None else (number % 3,)
                places += _told(everything(proxy.url, secrets, *kinds), secrets)
            upstream.heal()
            _administered(proxy, admin, secrets.wrong)
            places += _shown(proxy)
            with redis.Redis(unix_socket_path=str(server.socket), password=password) as client:
                kept = list(_stored(client))
            assert kept, "it was used"
            places += kept
            for trouble in (broken_line, {"CRATES_PROXY_UPSTREAM__OFFLINE": "true"}):
                proxy.stop()
                proxy.start(**trouble)
                places += _told(everything(proxy.url, secrets, 0), secrets)
                places += _shown(proxy)
            proxy.stop()
            settings = {**settings, **broken_line, "CRATES_PROXY_CACHE__DIR": str(proxy.cache)}
            for command in COMMANDS:
                done = ran(*command, settings=settings, home=tmp_path)
                places.append((f"what `{' '.join(command)}` prints", (done.stdout + done.stderr).encode()))
            places += [("the log", proxy.log.encode()), *_files(proxy.cache)]
            assert "method=PUT path=/api/v1/crates/new" in proxy.log and '"method":"PUT"' in proxy.log
    assert told(named, places) == []


def _shown(proxy: harness.Proxy) -> list[tuple[str, bytes]]:
    return [(path, httpx.get(proxy.url + path, trust_env=False).content) for path in OPERATORS]


def _generous(upstream: Upstream, secrets: Secrets) -> None:
    """Upstream gives secrets of its own: a token in a body, a session in a cookie."""
    cookie = ("set-cookie", f"cargo_session={secrets.session}")
    made = json.dumps({"token": secrets.made, "api_token": {"token": secrets.made}}).encode()
    json_type = ("content-type", "application/json")
    for match in ("POST /api/v1/trusted_publishing/tokens", "PUT /api/v1/me/tokens"):
        upstream.fault(match, faults.Status(200, (cookie, json_type), made))
    for match in ("GET /api/v1/crates/leaf/owners", "GET /api/v1/crates/leaf/1.0.0/what", secrets.pasted):
        public = ("cache-control", "public, max-age=60")
        upstream.fault(match, faults.Status(200, (cookie, json_type, public), b"{}"))


def _administered(proxy: harness.Proxy, admin: str, wrong: str) -> None:
    """The admin's token, right and wrong and in the wrong place."""
    with httpx.Client(base_url=proxy.url, trust_env=False) as client:
        body = {"crate": "nothing"}
        right = {"authorization": f"Bearer {admin}"}
        assert client.post("/-/purge", json=body, headers=right).status_code == 200
        assert client.post("/-/purge", json=body, headers={"authorization": f"Bearer {wrong}"}).status_code == 401
        assert client.post("/-/purge", json=body, headers={"authorization": admin}).status_code == 401
        assert client.post(f"/-/purge?token={admin}", json=body).status_code == 401
        assert client.post("/-/purge", json={**body, "token": admin}).status_code == 401
        assert client.post("/-/purge", json=body, headers={"cookie": f"token={admin}"}).status_code == 401
        client.get("/api/v1/crates/leaf", headers=right)
        client.get("/api/v1/me", headers={"authorization": wrong})


def test_a_secret_would_be_found_in_whatever_form() -> None:
    secret = canary()
    encoded = base64.b64encode(f"user:{secret}".encode())
    for data in (
        secret.encode(),
        encoded,
        secret.encode().hex().encode(),
        quote(secret).encode(),
        secret[:10].encode(),
    ):
        assert bool(told({"it": secret}, [("here", b"before " + data + b" behind")])) is (len(data) > 10)
    assert told({"it": secret}, [("here", canary().encode())]) == []


def test_what_lies_on_the_disk_is_for_one_user_alone(tmp_path: Path) -> None:
    with Upstream.running() as upstream, harness.proxy(tmp_path, upstream.settings_env()) as proxy:
        for path in ("/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"):
            assert httpx.get(proxy.url + path, trust_env=False).status_code == 200
        modes = {path: path.stat().st_mode for path in [proxy.cache, *proxy.cache.rglob("*")]}
        assert modes[proxy.cache] & 0o777 == 0o700
        for place, mode in modes.items():
            # What lies in a directory that nobody else may enter may have any mode, but be written by one user alone.
            assert not stat.S_ISDIR(mode) or place.parent != proxy.cache or mode & 0o077 == 0, place
            assert mode & 0o022 == 0, place
    proxy.cache.chmod(0o755)
    with harness.proxy(tmp_path / "again", {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(proxy.cache)}):
        assert proxy.cache.stat().st_mode & 0o777 == 0o700, "it is closed again"


def test_no_url_names_a_file(tmp_path: Path) -> None:
    name = "zqxjkvbw"
    with Upstream.running() as upstream, harness.proxy(tmp_path, upstream.settings_env()) as proxy:
        upstream.registry.add(Source(name, "7.7.7"), "ferris")
        upstream.fault("api GET /api/v1/other", faults.Status(200, (("cache-control", "max-age=60"),), b"{}"))
        for path in (
            f"/api/v1/crates/{name}",
            f"/api/v1/crates?q={name}",
            f"/index/{name[:2]}/{name[2:4]}/{name}",
            f"/api/v1/crates/{name}/7.7.7/download",
            f"/files/readmes/{name}/{name}-7.7.7.html",
            f"/api/v1/other/{name}",
            f"/api/v1/crates/{name}%2e%2e/x",
            f"/api/v1/crates/..%2f..%2f{name}",
        ):
            httpx.get(proxy.url + path, trust_env=False)
        assert [path for path in proxy.cache.rglob("*") if name in path.name or "7.7.7" in path.name] == []
        assert {path.name for path in tmp_path.iterdir()} == {"cache", "home", "proxy.log"}


class Broken:
    """An upstream with a fault in its own code, which names all that it was given."""

    async def send(self, ask: Ask) -> Any:
        raise RuntimeError(f"a bug in {ask!r}")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("fields", [*Secrets().fields()], ids=["token", "bearer", "basic"])
def test_a_bug_tells_no_secret(fields: Mapping[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n".encode()
    with whole.running(lambda _: Broken()) as proxy, pytest.raises(whole.Fault) as caught:
        proxy.exchange(head)
    assert "a bug in Ask(" in str(caught.value) and "Traceback" in str(caught.value)
    for value in fields.values():
        assert not any(form in str(caught.value).encode() for form in forms(value.split(" ")[-1].split("=")[-1]))


def test_what_carries_a_token_does_not_show_it() -> None:
    secret = canary()
    fields = ((b"authorization", secret.encode()),)
    target = f"/api/v1/confirm/{secret}"
    match = routes.match("PUT", "/api/v1/confirm/a", ())
    for value in (
        Ask(Host.API, "PUT", target, fields),
        Passage(match, "PUT", target, fields),
        Request("PUT", "http", target, (), fields),
    ):
        assert secret not in repr(value)
