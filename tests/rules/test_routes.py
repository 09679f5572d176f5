from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refused
from proxy.rules import paths, routes
from proxy.rules.endpoints import BY_NAME, Kind

SHA = "0123456789abcdef" * 4

# Method and target -> the row and the crate that it is about, or the status with which it is refused.
MATCHES: dict[tuple[str, str], tuple[str, str] | int] = {
    ("GET", "/api/v1/crates"): ("search", ""),
    ("HEAD", "/api/v1/crates"): ("search", ""),
    ("GET", "/api/v1/crates?q=following"): ("search", ""),
    ("GET", "/api/v1/crates?following"): ("following", ""),
    ("GET", "/api/v1/crates?following=0"): ("following", ""),
    ("GET", "/api/v1/crates?q=a&following="): ("following", ""),
    ("HEAD", "/api/v1/crates?%66ollowing=1"): ("following", ""),
    ("GET", "/api/v1/crates/serde"): ("crate", "serde"),
    ("GET", "/api/v1/crates/serde?following"): ("crate", "serde"),
    ("GET", "/api/v1/crates/Serde_JSON"): ("crate", "serde-json"),
    ("GET", "/api/v1/crates/new"): ("crate", "new"),
    ("GET", "/api/v1/crates/9a"): 404,
    ("GET", "/api/v1/crates/a.b"): 404,
    ("GET", "/api/v1/crates/" + "a" * 64): ("crate", "a" * 64),
    ("GET", "/api/v1/crates/" + "a" * 65): 404,
    ("GET", "/api/v1/crates/a%20b"): 404,
    ("GET", "/api/v1/crates/%73erde"): ("crate", "serde"),
    ("GET", "/api/v1/crates/serde/versions"): ("versions", "serde"),
    ("GET", "/api/v1/crates/9a/versions"): 404,
    ("GET", "/api/v1/crates/serde/following"): ("following", "serde"),
    ("GET", "/api/v1/crates/serde/1.0.0"): ("version", "serde"),
    ("GET", "/api/v1/crates/serde/1.0.0%2Ba"): ("version", "serde"),
    ("GET", "/api/v1/crates/serde/1.0"): 400,
    ("GET", "/api/v1/crates/serde/nonsense"): 400,
    ("GET", "/api/v1/crates/9a/1.0"): 404,
    ("GET", "/api/v1/crates/serde/1.0/dependencies"): 400,
    ("GET", "/api/v1/crates/serde/1.0/download"): 400,
    ("GET", "/api/v1/crates/serde/1.0/readme"): 400,
    ("GET", "/api/v1/crates/serde/1.0.0/nonsense"): ("other", "serde"),
    ("GET", "/api/v1/crates/9a/1.0.0/nonsense"): 404,
    ("GET", "/api/v1/crates/9a/following"): 404,
    ("GET", "/api/v1/crates/serde/1.0.0/dependencies/x"): ("other", "serde"),
    ("GET", "/files/crates/serde/serde-1.0.0.crate"): ("download", "serde"),
    ("HEAD", "/files/crates/serde/serde-1.0.0+a.crate"): ("download", "serde"),
    ("GET", "/files/crates/serde/serde-1.0.crate"): 404,
    ("GET", "/files/crates/serde/other-1.0.0.crate"): 404,
    ("GET", "/files/crates/serde-json/serde-json-1.0.0.crate"): ("download", "serde-json"),
    ("GET", f"/files/crates/serde/1.0.0/{SHA}/download"): ("download", "serde"),
    ("GET", f"/files/crates/serde/1.0/{SHA}/download"): 404,
    ("GET", f"/files/crates/9a/1.0.0/{SHA}/download"): 404,
    ("GET", f"/files/crates/serde/1.0.0/{SHA[1:]}/download"): 404,
    ("GET", f"/files/crates/serde/1.0.0/{SHA.upper()}/download"): 404,
    ("GET", "/files/readmes/serde/serde-1.0.0.html"): ("readme", "serde"),
    ("GET", "/files/readmes/serde/serde-1.0.html"): 404,
    ("GET", "/files/readmes/serde/serde-1.0.0.crate"): 404,
    ("GET", "/files/nonsense"): 404,
    ("GET", "/index/se/rd/serde"): ("index", "serde"),
    ("GET", "/index/se/rd/serde_json"): ("index", "serde-json"),
    ("GET", "/index/3/f/foo"): ("index", "foo"),
    ("GET", "/index/SE/RD/SERDE"): 404,
    ("GET", "/index/se/rd/tokio"): 404,
    ("GET", "/index/config.json"): 404,
    ("GET", "/index"): 404,
    ("GET", "/api/v1/users/alice"): ("user", ""),
    ("GET", "/api/v1/users/1/stats"): ("user_stats", ""),
    ("GET", "/api/v1/users"): ("other", ""),
    ("GET", "/api/v1/teams/github:a:b"): ("team", ""),
    ("GET", "/api/v1/me"): ("private", ""),
    ("HEAD", "/api/v1/me"): ("private", ""),
    ("GET", "/api/v1/me/tokens/1"): ("private", ""),
    ("GET", "/api/v1/me/x.css"): ("private", ""),
    ("GET", "/api/v1/me;x.css"): ("other", ""),
    ("GET", "/api/v1/me%2fx.css"): 400,
    ("GET", "/api/v1/mean"): ("other", ""),
    ("GET", "/api/v1/tokens/current"): ("private", ""),
    ("GET", "/api/v1/trusted_publishing/github_configs"): ("private", ""),
    ("GET", "/api/v1/nonsense"): ("other", ""),
    ("GET", "/api/v1"): 404,
    ("GET", "/api/v1/"): 404,
    ("GET", "/api/v2/crates"): 404,
    ("GET", "/api/private/session"): 404,
    ("GET", "/api/v1/crates/"): 404,
    ("GET", "/API/v1/crates"): 404,
    ("GET", "/"): 404,
    ("GET", "/nonsense"): 404,
    ("PUT", "/api/v1/crates/new"): ("publish", ""),
    ("DELETE", "/api/v1/crates/Serde_x/1.0.0/yank"): ("yank", "serde-x"),
    ("PUT", "/api/v1/crates/serde/1.0.0/unyank"): ("unyank", "serde"),
    ("PUT", "/api/v1/crates/serde/1.0.0/yank"): ("change", "serde"),
    ("PUT", "/api/v1/crates/serde/follow"): ("follow", "serde"),
    ("DELETE", "/api/v1/crates/serde/follow"): ("unfollow", "serde"),
    ("PUT", "/api/v1/crates/serde/owners"): ("add_owners", "serde"),
    ("DELETE", "/api/v1/crates/serde/owners"): ("remove_owners", "serde"),
    ("PATCH", "/api/v1/crates/serde"): ("update_crate", "serde"),
    ("PATCH", "/api/v1/crates/serde/1.0.0"): ("update_version", "serde"),
    ("DELETE", "/api/v1/crates/serde"): ("delete_crate", "serde"),
    ("POST", "/api/v1/crates/serde/1.0.0/rebuild_docs"): ("rebuild_docs", "serde"),
    ("POST", "/api/v1/crates/serde"): ("change", ""),
    ("POST", "/api/v1/crates/9a/x"): ("change", ""),
    ("PUT", "/api/v1/me/tokens"): ("change", ""),
    ("DELETE", "/api/v1/tokens/current"): ("change", ""),
    ("POST", "/api/v1/trusted_publishing/tokens"): ("change", ""),
    ("OPTIONS", "/api/v1/crates"): ("change", ""),
    ("POST", "/api/v1/crates?following"): ("change", ""),
    ("POST", "/index/se/rd/serde"): 405,
    ("PUT", "/index/config.json"): 405,
    ("DELETE", "/files/crates/serde/serde-1.0.0.crate"): 405,
    ("OPTIONS", "/files/nonsense"): 405,
    ("TRACE", "/api/v1/me"): 405,
    ("PROPFIND", "/api/v1/me"): 405,
    ("PURGE", "/api/v1/crates/serde"): 405,
    ("PURGE", "/"): 405,
    ("POST", "/"): 404,
    ("POST", "/nonsense"): 404,
    ("POST", "/api/v2/crates"): 404,
}

METHOD = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PURGE"])
WORDS = ["api", "v1", "crates", "files", "index", "me", "users", "new", "serde", "1.0.0", "1.0", "download", "readmes"]
MORE = ["se", "rd", "config.json", SHA, "serde-1.0.0.crate", "serde-1.0.0.html", "%20", "following", "yank", "%0a"]
PATH = st.lists(st.sampled_from(WORDS + MORE), max_size=7).map(lambda words: "/" + "/".join(words))


def matched(method: str, target: str) -> routes.Match:
    path, _, query = target.partition("?")
    return routes.match(method, paths.path(path.encode()), paths.query(query.encode()))


@pytest.mark.parametrize(("method", "target"), MATCHES)
def test_a_request_belongs_to_one_row_or_is_refused(method: str, target: str) -> None:
    expected = MATCHES[method, target]
    if isinstance(expected, int):
        with pytest.raises(Refused) as caught:
            matched(method, target)
        assert caught.value.status == expected
    else:
        found = matched(method, target)
        assert (found.endpoint.name, found.crate) == expected


def test_a_match_keeps_path_query_and_parameters() -> None:
    found = matched("GET", "/api/v1/crates/Serde/1.0.0%2Ba/downloads?b=1&a=2")
    assert found.path == "/api/v1/crates/Serde/1.0.0+a/downloads"
    assert found.query == (("a", "2"), ("b", "1"))
    assert found.parameters == {"crate": "Serde", "version": "1.0.0+a"}


@given(METHOD, PATH | st.binary(max_size=12).map(lambda raw: "/api/v1/" + raw.decode("latin-1")))
def test_every_request_is_matched_or_refused(method: str, target: str) -> None:
    try:
        path = paths.path(target.encode("latin-1"))
        found = routes.match(method, path, ())
    except Refused as error:
        assert error.status in (400, 404, 405)
        assert error.status != 405 or method not in ("GET", "HEAD")
    else:
        assert (found.endpoint.kind is Kind.CHANGE) is (method not in ("GET", "HEAD"))
        assert found.endpoint.name in BY_NAME
        assert found.crate == found.crate.lower()


@given(PATH)
def test_head_belongs_to_the_row_of_get(target: str) -> None:
    results: list[object] = []
    for method in ("GET", "HEAD"):
        try:
            results.append(routes.match(method, paths.path(target.encode()), ()))
        except Refused as error:
            results.append((error.status, error.detail))
    assert results[0] == results[1]
