from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.errors import Refused
from proxy.rules import keys, paths, routes, sparse
from proxy.rules.endpoints import Kind, Policy, policy
from proxy.rules.keys import Read

SHA = "0123456789abcdef" * 4

# Target at this proxy -> key (row and target upstream).
KEYS = {
    "/api/v1/crates": "search /api/v1/crates",
    "/api/v1/crates?q=b&page=2": "search /api/v1/crates?page=2&q=b",
    "/api/v1/crates?q=a+b": "search /api/v1/crates?q=a%20b",
    "/api/v1/crates/Serde_JSON": "crate /api/v1/crates/serde-json",
    "/api/v1/crates/serde?include=": "crate /api/v1/crates/serde?include=",
    "/api/v1/crates/crates": "crate /api/v1/crates/crates",
    "/api/v1/crates/Serde_JSON/versions": "versions /api/v1/crates/Serde_JSON/versions",
    "/api/v1/crates/Serde_JSON/downloads": "crate_downloads /api/v1/crates/Serde_JSON/downloads",
    "/api/v1/crates/Serde_JSON/owners": "owners /api/v1/crates/serde-json/owners",
    "/api/v1/crates/F/reverse_dependencies?page=2": "reverse_dependencies /api/v1/crates/f/reverse_dependencies?page=2",
    "/api/v1/crates/Foo_/1.0.0%2bA": "version /api/v1/crates/foo-/1.0.0+A",
    "/api/v1/crates/Foo/1.0.0-A/dependencies": "dependencies /api/v1/crates/foo/1.0.0-A/dependencies",
    "/api/v1/crates/Foo/1.0.0/downloads": "version_downloads /api/v1/crates/Foo/1.0.0/downloads",
    "/api/v1/crates/Foo/1.0.0/authors": "authors /api/v1/crates/Foo/1.0.0/authors",
    "/api/v1/crates/foo/1.0.0+a/readme": "readme /readmes/foo/foo-1.0.0%2Ba.html",
    "/api/v1/crates/foo/1.0.0/readme?x=1": "readme /readmes/foo/foo-1.0.0.html",
    "/files/readmes/foo/foo-1.0.0+a.html": "readme /readmes/foo/foo-1.0.0%2Ba.html",
    "/index/3/f/foo": "index /3/f/foo",
    "/index/3/f/foo?x=1": "index /3/f/foo",
    "/api/v1/users/Alice": "user /api/v1/users/Alice",
    "/api/v1/keywords/a;": "keyword /api/v1/keywords/a%3B",
    "/api/v1/categories/web-programming%3a%3ahttp": "category /api/v1/categories/web-programming::http",
    "/api/v1/nonsense/x?a": "other /api/v1/nonsense/x?a=",
}

CRATE = st.sampled_from(["foo", "Foo", "f_o", "f-o", "F_O", "new", "crates"])
VERSION = st.sampled_from(["1.0.0", "1.0.0+a", "1.0.0%2Ba", "1.0.0-a", "1.0.0-A"])
REST = st.sampled_from(["", "versions", "downloads", "owners", "owner_user", "reverse_dependencies", "x/y"])
OF_VERSION = st.sampled_from(["", "dependencies", "downloads", "authors", "readme", "x"])
PARAMETER = st.sampled_from(["a=1", "a=2", "b=1", "include=", "include", "a=%31", "a=1%26b=1", "a=1;b=1", "following"])
QUERY = st.lists(PARAMETER, max_size=3).map("&".join)
TARGET = st.one_of(
    st.builds("/api/v1/crates?{}".format, QUERY),
    st.builds("/api/v1/crates/{}/{}?{}".format, CRATE, REST, QUERY),
    st.builds("/api/v1/crates/{}/{}/{}?{}".format, CRATE, VERSION, OF_VERSION, QUERY),
    st.builds("/files/readmes/{0}/{0}-{1}.html".format, CRATE, VERSION),
    st.builds("/index/3/{}/{}?{}".format, st.sampled_from("fn"), CRATE, QUERY),
    st.builds("/api/v1/{}/{}?{}".format, st.sampled_from(["users", "keywords", "x"]), CRATE, QUERY),
)


def read(target: str) -> Read:
    path, _, query = target.partition("?")
    found = routes.match("GET", paths.path(path.rstrip("/").encode()), paths.query(query.encode()))
    return keys.read(found, policy(found.endpoint, found.query))


def upstream(read: Read) -> tuple[str, str]:
    return read.endpoint.host, read.target


@pytest.mark.parametrize("target", KEYS)
def test_a_key_is_the_row_and_the_target_upstream(target: str) -> None:
    assert read(target).key == KEYS[target]


@pytest.mark.parametrize(
    ("target", "tag"), [("/api/v1/crates/Foo_x", "foo-x"), ("/index/3/f/foo", "foo"), ("/api/v1/crates", "")]
)
def test_what_is_stored_is_tagged_with_the_crate(target: str, tag: str) -> None:
    assert read(target).tag == tag


def test_a_read_carries_what_decides_about_it() -> None:
    found = routes.match("GET", "/api/v1/crates/foo", ())
    chosen = Policy(ttl=1.0)
    assert keys.read(found, chosen, no_cache=True) == Read(
        found.endpoint, chosen, "/api/v1/crates/foo", "foo", no_cache=True
    )


@pytest.mark.parametrize("target", ["/api/v1/crates/Serde_JSON", "/api/v1/crates/Serde_JSON/1.0.0/dependencies"])
def test_a_read_remembers_how_its_client_spells_the_name(target: str) -> None:
    assert read(target).name == "Serde_JSON"
    assert read(target) == read(target.replace("Serde_JSON", "serde-json"))
    assert read("/api/v1/crates").name == read("/index/se/rd/serde_json").name == ""


@pytest.mark.parametrize("name", ["a", "ab", "foo", "Serde_JSON"])
def test_an_index_file_that_this_proxy_wants_has_the_key_of_a_clients_read(name: str) -> None:
    own = keys.index_read(sparse.path(name))
    assert own == read("/index/" + sparse.path(name))
    assert not own.no_cache
    assert keys.index_read(sparse.path(name), Policy(ttl=7.0), no_cache=True).policy == Policy(ttl=7.0)
    assert keys.index_read(sparse.path(name), no_cache=True).no_cache


@pytest.mark.parametrize(
    ("version", "spelt"), [("1.0.0", "1.0.0"), ("1.0.0+a.b", "1.0.0%2Ba.b"), ("1.0.0-a-b", "1.0.0-a-b")]
)
def test_the_static_hosts_names_escape_the_plus(version: str, spelt: str) -> None:
    assert keys.tarball_target("Foo", version) == f"/crates/Foo/Foo-{spelt}.crate"
    assert keys.readme_target("Foo", version) == f"/readmes/Foo/Foo-{spelt}.html"


@given(TARGET, TARGET)
def test_one_key_means_one_target_upstream_and_the_other_way_round(one: str, other: str) -> None:
    try:
        first, second = read(one), read(other)
    except Refused:
        assume(False)
        raise
    assert (first.key == second.key) is (upstream(first) == upstream(second))


@given(TARGET)
def test_a_key_asked_for_again_by_its_target_is_the_same_key(target: str) -> None:
    try:
        first = read(target)
    except Refused:
        assume(False)
        raise
    mounted = {Kind.INDEX: "/index", Kind.HTML: "/files"}.get(first.endpoint.kind, "")
    assert read(mounted + first.target).key == first.key
