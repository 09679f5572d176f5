"""The small crates.io itself: it is as much code as some of what is tested with it."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

import httpx
import pytest

from tests.upstream import IpLimit, Source, Upstream, faults, samples
from tests.upstream.crates import publish_body
from tests.upstream.faults import At
from tests.upstream.index import path as index_path

LEAF = "/crates/leaf/leaf-1.1.0.crate"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream.running() as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(headers={"user-agent": "tests (nobody@example.com)"}, timeout=5, trust_env=False) as made:
        yield made


def test_every_tarball_is_what_the_index_says(upstream: Upstream, client: httpx.Client) -> None:
    seen = 0
    for package in upstream.registry.packages.values():
        lines = client.get(upstream.index + index_path(package.name)).text.splitlines()
        for line in map(json.loads, lines):
            form = f"/crates/{line['name']}/{line['name']}-{line['vers']}.crate"
            got = client.get(upstream.static + form.replace("+", "%2B"))
            assert hashlib.sha256(got.content).hexdigest() == line["cksum"]
            assert client.get(f"{upstream.static}/crates/{line['name']}/{line['vers']}/download").content == got.content
            with tarfile.open(fileobj=io.BytesIO(got.content)) as archive:
                assert f"{line['name']}-{line['vers']}/Cargo.toml" in archive.getnames()
            seen += 1
    assert seen == len(samples.SOURCES)


def test_the_index_answers_like_a_bucket(upstream: Upstream, client: httpx.Client) -> None:
    url = upstream.index + "/le/af/leaf"
    first = client.get(url)
    assert first.headers["cache-control"] == "public,max-age=600"
    assert client.get(url, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert client.get(url, headers={"if-modified-since": first.headers["last-modified"]}).status_code == 304
    assert client.get(upstream.index + "/le/af/leaf-less").status_code == 404
    assert client.get(upstream.index + "/mi/xe/mixed-name-rs").status_code == 404
    assert client.get(upstream.index + "/config.json").json()["dl"] == upstream.static + "/crates"
    upstream.registry.yank("leaf", "1.1.0")
    after = client.get(url, headers={"if-none-match": first.headers["etag"]})
    assert after.status_code == 200 and after.headers["etag"] != first.headers["etag"]


def test_the_static_host_answers_like_a_bucket(upstream: Upstream, client: httpx.Client) -> None:
    whole = client.get(upstream.static + LEAF)
    assert whole.headers["cache-control"] == "public,max-age=31536000,immutable"
    part = client.get(upstream.static + LEAF, headers={"range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, whole.content[2:10])
    assert client.get(upstream.static + LEAF, headers={"range": "bytes=999999-"}).status_code == 416
    missing = client.get(upstream.static + "/crates/Leaf/Leaf-1.1.0.crate")
    assert missing.status_code == 403 and "AccessDenied" in missing.text
    assert client.post(upstream.static + LEAF).status_code == 401
    assert "Depends on nothing" in client.get(upstream.static + "/readmes/leaf/leaf-1.1.0.html").text


def test_the_feed_has_the_form_of_crates_ios(upstream: Upstream, client: httpx.Client) -> None:
    upstream.registry.add(Source("noted", "0.1.0", description="let's try & break <item> ]]>"), samples.OWNER)
    answer = client.get(upstream.static + "/rss/updates.xml")
    assert answer.headers["content-type"] == "text/xml; charset=UTF-8"
    space = {"atom": "http://www.w3.org/2005/Atom", "crates": "https://crates.io/"}
    channel = ElementTree.fromstring(answer.text)[0]
    link = channel.find("atom:link", space)
    assert link is not None and link.get("href") == upstream.static + "/rss/updates.xml"
    items = channel.findall("item")
    assert len(items) == len(samples.SOURCES) + 1
    assert {child.tag: child.text for child in items[0] if child.tag != "pubDate"} == {
        "title": "New crate version published: noted v0.1.0",
        "link": "https://crates.io/crates/noted/0.1.0",
        "description": "let's try & break <item> ]]>",
        "guid": "https://crates.io/crates/noted/0.1.0",
        "{https://crates.io/}name": "noted",
        "{https://crates.io/}version": "0.1.0",
    }
    dates = [parsedate_to_datetime(item.findtext("pubDate") or "") for item in items]
    assert dates == sorted(dates, reverse=True)
    tagged = {"if-none-match": answer.headers["etag"]}
    assert client.get(upstream.static + "/rss/updates.xml", headers=tagged).status_code == 304


@pytest.mark.parametrize("ago, length", [(0.0, 120), (7200.0, 100)])
def test_the_feed_has_all_of_the_last_hour_and_at_least_a_hundred(
    ago: float, length: int, upstream: Upstream, client: httpx.Client
) -> None:
    for number in range(120):
        upstream.registry.add(Source("many", f"0.{number}.0"), samples.OWNER, at=upstream.registry.clock() - ago)
    assert client.get(upstream.static + "/rss/updates.xml").text.count("<item>") == length


READS = (
    ("/crates", "crates meta"),
    ("/crates?q=leaf&per_page=3", "crates meta"),
    ("/crates/leaf", "crate versions keywords categories"),
    ("/crates/leaf/versions", "versions meta"),
    ("/crates/leaf/downloads", "version_downloads meta"),
    ("/crates/leaf/owners", "users"),
    ("/crates/leaf/owner_user", "users"),
    ("/crates/leaf/owner_team", "teams"),
    ("/crates/leaf/reverse_dependencies", "dependencies versions meta"),
    ("/crates/leaf/1.0.0", "version"),
    ("/crates/branch/0.5.0/dependencies", "dependencies"),
    ("/crates/leaf/1.0.0/downloads", "version_downloads"),
    ("/crates/leaf/1.0.0/authors", "users meta"),
    ("/keywords", "keywords meta"),
    ("/keywords/Tiny", "keyword"),
    ("/categories", "categories meta"),
    ("/categories/encoding", "category"),
    ("/category_slugs", "category_slugs"),
    ("/users/Ferris", "user"),
    ("/users/1/stats", "total_downloads"),
    ("/site_metadata", "deployed_sha commit read_only banner_message cdn_base"),
)


@pytest.mark.parametrize(("path", "keys"), READS)
def test_reads_have_the_shape_of_crates_io(upstream: Upstream, client: httpx.Client, path: str, keys: str) -> None:
    got = client.get(f"{upstream.api}/api/v1{path}")
    assert got.status_code == 200
    assert set(got.json()) == set(keys.split())
    assert not {"etag", "last-modified", "set-cookie"} & set(got.headers)
    assert got.headers["access-control-allow-origin"] == "*" and got.headers["vary"] == "accept-encoding"
    assert ("content-encoding" in got.headers) == (len(got.content) > 32)
    assert client.head(f"{upstream.api}/api/v1{path}").status_code == 200


REFUSALS = (
    ("/crates/absent", 404, "crate `absent` does not exist"),
    ("/crates/leaf/9.9.9", 404, "crate `leaf` does not have a version `9.9.9`"),
    ("/crates/leaf/soon", 400, "Invalid URL: unexpected character 's' while parsing major version number"),
    ("/crates/leaf/", 404, "Not Found"),
    ("/versions", 404, "Not Found"),
    ("/crates?page=201", 400, "Page 201 is unavailable for performance reasons."),
    ("/crates?per_page=101", 400, "cannot request more than 100 items"),
    ("/crates?page=1&seek=MQ", 400, "providing both ?page= and ?seek= is unsupported"),
    ("/crates/leaf/versions?page=1", 400, "?page= is not supported for this request"),
    ("/crates?following", 403, "this action requires authentication"),
    ("/me", 403, "this action requires authentication"),
)


@pytest.mark.parametrize(("path", "status", "detail"), REFUSALS)
def test_refusals_are_in_the_words_of_crates_io(
    upstream: Upstream, client: httpx.Client, path: str, status: int, detail: str
) -> None:
    got = client.get(f"{upstream.api}/api/v1{path}")
    assert got.status_code == status
    assert got.json()["errors"][0]["detail"].startswith(detail)


def test_pages_follow_one_another_to_the_end(upstream: Upstream, client: httpx.Client) -> None:
    names: list[str] = []
    query = "?per_page=4"
    while query:
        body = client.get(f"{upstream.api}/api/v1/crates{query}").json()
        names += [crate["name"] for crate in body["crates"]]
        query = body["meta"]["next_page"]
    assert names == sorted((package.name for package in upstream.registry.packages.values()), key=str.lower)


def test_downloads_lead_to_the_static_host(upstream: Upstream, client: httpx.Client) -> None:
    url = f"{upstream.api}/api/v1/crates/meta-build/1.0.0+b1/download"
    there = upstream.static + "/crates/meta-build/meta-build-1.0.0%2Bb1.crate"
    redirect = client.get(url, headers={"user-agent": ""})
    assert (redirect.status_code, redirect.headers["location"]) == (302, there)
    assert "x-frame-options" not in redirect.headers
    assert client.get(url, headers={"accept": "application/json"}).json() == {"url": there}
    assert client.get(there).status_code == 200


def test_user_agents_are_required_and_some_are_blocked(upstream: Upstream, client: httpx.Client) -> None:
    for agent in ("", "curl/8.0", "python-requests/2"):
        got = client.get(upstream.api + "/api/v1/summary", headers={"user-agent": agent})
        assert got.status_code == 403 and "access-control-allow-origin" not in got.headers


def test_what_is_private_is_not_stored(upstream: Upstream, client: httpx.Client) -> None:
    cookie, token = {"cookie": f"cargo_session={samples.SESSION}"}, {"authorization": samples.TOKEN}
    me = client.get(upstream.api + "/api/v1/me", headers=cookie)
    assert me.json()["user"]["login"] == samples.OWNER and me.headers["cache-control"] == "no-store"
    refused = client.get(upstream.api + "/api/v1/me", headers=token)
    assert refused.status_code == 403 and "crates.io website" in refused.text
    client.put(upstream.api + "/api/v1/crates/leaf/follow", headers=token)
    following = client.get(upstream.api + "/api/v1/crates/leaf/following", headers=cookie)
    assert following.json() == {"following": True}
    assert client.get(upstream.api + "/api/v1/crates?following=1", headers=token).json()["meta"]["total"] == 1


def test_a_published_crate_is_there_at_once(upstream: Upstream, client: httpx.Client) -> None:
    source, url = Source("brand-new", "0.1.0"), upstream.api + "/api/v1/crates/new"
    assert client.put(url, content=publish_body(source)).status_code == 403
    wrong = client.put(url, content=publish_body(source), headers={"authorization": "cioWrong"})
    assert wrong.json() == {"errors": [{"detail": "authentication failed"}]}
    short = client.put(url, content=publish_body(source)[:-1], headers={"authorization": samples.TOKEN})
    assert short.status_code == 400 and "invalid tarball length" in short.text
    done = client.put(url, content=publish_body(source), headers={"authorization": f"Bearer {samples.TOKEN}"})
    assert done.status_code == 200 and set(done.json()) == {"crate", "warnings"}
    assert client.get(upstream.index + "/br/an/brand-new").status_code == 200
    assert client.get(upstream.api + "/api/v1/crates/Brand_New").status_code == 200
    again = client.put(url, content=publish_body(source), headers={"authorization": samples.TOKEN})
    assert again.json()["errors"][0]["detail"] == "crate version `0.1.0` is already uploaded"


def test_yanks_and_owners_and_deletion(upstream: Upstream, client: httpx.Client) -> None:
    crate, token = upstream.api + "/api/v1/crates/leaf", {"authorization": samples.TOKEN}
    assert client.delete(crate + "/1.1.0/yank", headers={"authorization": samples.OTHER_TOKEN}).status_code == 403
    assert client.delete(crate + "/1.1.0/yank", headers=token).json() == {"ok": True}
    assert client.get(crate).json()["crate"]["max_stable_version"] == "1.0.0"
    assert client.put(crate + "/1.1.0/unyank", headers=token).json() == {"ok": True}
    added = client.put(crate + "/owners", headers=token, json={"users": ["github:crew:all"]})
    assert added.json()["msg"] == "team github:crew:all has been added as an owner of crate leaf"
    assert [one["kind"] for one in client.get(crate + "/owners").json()["users"]] == ["user", "team"]
    invited = client.put(crate + "/owners", headers=token, json={"users": [samples.OTHER]})
    assert invited.json()["msg"] == "user corro has been invited to be an owner of crate leaf"
    upstream.registry.accept("leaf", samples.OTHER)
    last = {"users": [samples.OTHER, samples.OWNER]}
    assert client.request("DELETE", crate + "/owners", headers=token, json=last).status_code == 400
    session = {"cookie": f"cargo_session={samples.SESSION}"}
    assert client.delete(crate, headers=session).status_code == 204
    assert client.get(crate).status_code == 404


def test_a_hasty_user_is_told_when_to_come_again(upstream: Upstream, client: httpx.Client) -> None:
    until = datetime.now(UTC).timestamp() + 600
    upstream.registry.throttled[samples.OWNER] = until
    url, token = upstream.api + "/api/v1/crates/leaf/1.1.0/yank", {"authorization": samples.TOKEN}
    got = client.delete(url, headers=token)
    assert got.status_code == 429
    assert parsedate_to_datetime(got.headers["retry-after"]).timestamp() == int(until)


def test_an_address_has_its_limit(upstream: Upstream, client: httpx.Client) -> None:
    now = [0.0]
    upstream.ip_limit = IpLimit(lambda: now[0], requests=2)
    codes = [client.get(upstream.api + "/api/v1/summary").status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    now[0] = 700.0
    assert client.get(upstream.api + "/api/v1/summary").status_code == 200


def test_the_log_tells_what_was_asked(upstream: Upstream, client: httpx.Client) -> None:
    client.get(upstream.static + LEAF + "?x=%2f", headers={"x-mark": "here"})
    client.put(upstream.api + "/api/v1/crates/leaf/follow", content=b"abc")
    (one,) = upstream.asked(host="static")
    assert (one.method, one.target, one.status, one.header("x-mark")) == ("GET", LEAF + "?x=%2f", 200, "here")
    assert [two.body_length for two in upstream.asked(method="PUT", contains="/follow")] == [3]
    upstream.forget()
    assert upstream.asked() == []


def raw(upstream: Upstream, target: str = LEAF) -> bytes:
    """The bytes of an answer, to the end of the connection or two seconds of silence."""
    port = int(upstream.static.rpartition(":")[2])
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        line.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        while piece := line.recv(65536):
            got += piece
    return got


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_faults_cut_answers_where_they_say(upstream: Upstream) -> None:
    whole = body(raw(upstream))
    lengths: dict[At | int, int] = {At.START: 0, At.MIDDLE: len(whole) // 2, At.LAST_BYTE: len(whole) - 1, 7: 7}
    for at, length in lengths.items():
        upstream.fault(LEAF, faults.Truncate(at), times=1)
        assert body(raw(upstream)) == whole[:length]
    upstream.fault(LEAF, faults.Truncate(At.HEAD), times=1)
    assert b"\r\n\r\n" not in raw(upstream)
    upstream.fault(LEAF, faults.Truncate(At.LAST_CHUNK), times=1)
    chunked = raw(upstream)
    assert b"transfer-encoding: chunked" in chunked and not chunked.endswith(b"0\r\n\r\n")
    assert body(raw(upstream)) == whole


def test_faults_change_bytes_and_lengths(upstream: Upstream, client: httpx.Client) -> None:
    url = upstream.static + LEAF
    whole = client.get(url).content
    upstream.fault("static GET", faults.Corrupt(), times=1)
    wrong = client.get(url).content
    assert len(wrong) == len(whole) and sum(a != b for a, b in zip(wrong, whole, strict=True)) == 1
    upstream.fault("static GET", faults.Garbage(), times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url)
    upstream.fault("static GET", faults.Length(+5), times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(url)
    upstream.fault("static GET", faults.Length(-5), times=1)
    assert client.get(url, headers={"connection": "close"}).content == whole[:-5]
    for harmless in (faults.Chunked(), faults.CloseDelimited(), faults.Gzip(), faults.Delay(0.01), faults.Slow(50_000)):
        upstream.fault("static GET", harmless, times=1)
        assert client.get(url).content == whole


def test_faults_answer_otherwise_or_not_at_all(upstream: Upstream, client: httpx.Client) -> None:
    url = upstream.static + LEAF
    upstream.fault(LEAF, faults.Status(503, (("retry-after", "7"),)), times=2)
    upstream.fault(LEAF, faults.Status(200, body=b"else"), times=1)
    assert [client.get(url).status_code for _ in range(2)] == [503, 503]
    assert client.get(url).content == b"else"
    upstream.fault(LEAF, faults.Reset(), times=1)
    with pytest.raises(httpx.ReadError):
        client.get(url)
    upstream.fault(LEAF, faults.Reset(after=10), times=1)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        client.get(url)
    upstream.fault(LEAF, faults.Stall(), times=1)
    with pytest.raises(httpx.ReadTimeout):
        client.get(url, timeout=0.2)
    assert [one.status for one in upstream.asked()] == [503, 503, 200, 0, 200, 0]


def test_an_endless_body_goes_on_until_the_client_leaves(upstream: Upstream, client: httpx.Client) -> None:
    upstream.fault(lambda request: request.path == LEAF, faults.Endless())
    taken = 0
    with client.stream("GET", upstream.static + LEAF) as answer:
        for piece in answer.iter_bytes():
            taken += len(piece)
            if taken > 5_000_000:
                break
    upstream.heal()
    assert client.get(upstream.static + LEAF).status_code == 200


def test_a_cut_line_refuses_and_comes_back_on_the_same_port(upstream: Upstream, client: httpx.Client) -> None:
    assert client.get(upstream.static + LEAF).status_code == 200
    upstream.stop()
    with pytest.raises(httpx.TransportError):
        client.get(upstream.static + LEAF)
    with pytest.raises(httpx.ConnectError):
        client.get(upstream.static + LEAF)
    upstream.start()
    assert client.get(upstream.static + LEAF).status_code == 200
    upstream.stop("api")
    assert client.get(upstream.static + LEAF).status_code == 200


def test_a_held_herd_is_counted_and_let_go(upstream: Upstream, client: httpx.Client) -> None:
    upstream.hold("static GET")
    with ThreadPoolExecutor(5) as pool:
        asks = [pool.submit(client.get, upstream.static + LEAF) for _ in range(5)]
        upstream.wait_for(5, host="static")
        assert not any(ask.done() for ask in asks)
        upstream.release()
        assert {ask.result().status_code for ask in asks} == {200}
    assert upstream.held == 0
    with pytest.raises(TimeoutError):
        upstream.wait_for(6, host="static", within=0.05)
