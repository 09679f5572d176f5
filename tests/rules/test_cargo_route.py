from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.rules import cargo_config, cargo_lines, cargo_route
from proxy.rules.cargo_config import File
from proxy.rules.cargo_route import Route
from proxy.rules.findings import Grade

BASE = "http://127.0.0.1:8080"
INDEX = f"{BASE}/index/"
OURS = cargo_lines.lines(f"sparse+{INDEX}")


def routed(
    text: str,
    environ: Mapping[str, str] | None = None,
    base: str = BASE,
    version: tuple[int, ...] | None = (1, 95, 0),
) -> Route:
    config = cargo_config.merged([File("config.toml", text)], environ or {})
    return cargo_route.route(config, environ or {}, base, version)


def told(route: Route) -> list[str]:
    """What is not as it should be."""
    return [str(each) for each in route.findings if each.grade is not Grade.OK]


def replaced(source: str) -> str:
    return f'[source.crates-io]\nreplace-with = "m"\n{source}\n'


def test_our_own_lines_lead_here_and_nothing_is_wrong_with_them() -> None:
    route = routed(OURS)
    assert (route.index, told(route)) == (INDEX, [])
    assert [each.what for each in route.findings] == ["cargo", "cargo source", "cargo --registry"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "fail cargo source: cargo asks crates.io itself: no file"),
        ('[source.crates_io]\nreplace-with = "m"', "rename it to [source.crates-io]"),
        ('[source.m]\nregistry = "x"', "fail cargo source: cargo asks crates.io itself: no file"),
        (replaced(""), "crates-io is replaced by 'm', and no file that cargo reads defines [source.m]"),
        (replaced('[source.m]\nreplace-with = "crates-io"'), "crates-io -> m -> crates-io: a circle"),
        (replaced(f'[source.m]\nregistry = "{INDEX}"'), f'put sparse+ before it: "sparse+{INDEX}"'),
        (replaced(f'[source.m]\nregistry = "sparse+{INDEX[:-1]}"'), f'add it: "sparse+{INDEX}"'),
        (replaced('[source.m]\ndirectory = "vendor"'), "warn cargo source: [source.m] directory = 'vendor'"),
        (replaced('[source.m]\nlocal-registry = "all"'), "cargo asks no registry"),
        (
            replaced(f'[source.m]\nregistry = "sparse+{INDEX}"\ndirectory = "vendor"'),
            "[source.m] has registry (config.toml) and directory (config.toml), of which cargo takes one",
        ),
        (replaced('[source.m]\ngit = "https://g"'), "cargo asks no registry"),
        ("[source", "fail cargo configuration: config.toml: it is not TOML"),
    ],
)
def test_why_cargo_does_not_come_here_is_told(text: str, says: str) -> None:
    route = routed(text)
    assert route.index == ""
    assert any(says in line for line in told(route)), told(route)


@pytest.mark.parametrize(
    ("index", "base", "says"),
    [
        ("https://127.0.0.1:8080/index/", BASE, "is https, and this proxy is reached over http"),
        ("http://127.0.0.1:8080/", BASE, "has another path than the index"),
        ("http://other:8080/index/", BASE, "is another address than"),
        ("http://127.0.0.1:9090/index/", BASE, "is another address than"),
        ("http://localhost:8080/index/", BASE, ""),
        ("https://m.example/index/", "https://m.example:443", ""),
        ("https://m.example/index/", "", ""),
    ],
)
def test_where_cargo_goes_is_compared_with_where_this_proxy_is(index: str, base: str, says: str) -> None:
    route = routed(cargo_lines.lines(f"sparse+{index}"), base=base)
    assert route.index == index
    lines = [line for line in told(route) if "cargo source" in line]
    assert (says in lines[0]) if says else not lines


def test_a_source_may_be_a_registry_too_and_one_may_lead_to_another() -> None:
    text = '[source.crates-io]\nreplace-with = "a"\n[source.a]\nreplace-with = "mirror"\n'
    route = routed(f'{text}[registries.mirror]\nindex = "sparse+{INDEX}"\n')
    assert (route.index, told(route)) == (INDEX, [])


def test_sources_in_the_environment_are_told_to_mean_nothing() -> None:
    (line,) = told(routed("", {"CARGO_SOURCE_CRATES_IO_REPLACE_WITH": "mirror"}))
    assert "it reads sources from files only" in line and "CARGO_SOURCE_CRATES_IO_REPLACE_WITH" in line


@pytest.mark.parametrize(
    ("registries", "says"),
    [
        ("", "no [registries.NAME] has this proxy's index"),
        ('[registries.a]\ntoken = "t"', "no [registries.NAME] has this proxy's index"),
        (f'[registries.a]\nindex = "sparse+{INDEX[:-1]}"', "does not end in a slash"),
        ('[registries.a]\nindex = "https://private.example/git"', "no [registries.NAME] has this proxy's index"),
    ],
)
def test_registry_commands_have_a_table_of_their_own(registries: str, says: str) -> None:
    route = routed(replaced(f'[source.m]\nregistry = "sparse+{INDEX}"\n{registries}'))
    assert route.index == INDEX
    assert any(line.split(" ", 1)[1].startswith("cargo --registry") and says in line for line in told(route))


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("", {"http_proxy": "http://user:secret@proxy:3128"}, "through the proxy http://proxy:3128 (http_proxy)"),
        ("", {"http_proxy": "proxy:3128", "no_proxy": "127.0.0.1"}, ""),
        ("", {"HTTPS_PROXY": "proxy:3128"}, ""),
        ('[http]\nproxy = "proxy:3128"\n', {}, "through the proxy proxy:3128 (http.proxy in config.toml)"),
        ("", {"CARGO_HTTP_PROXY": "proxy:3128"}, "(http.proxy in CARGO_HTTP_PROXY)"),
        ("[net]\noffline = true\n", {}, "warn cargo net.offline: is true (config.toml)"),
        ("", {"CARGO_NET_OFFLINE": "true"}, "(CARGO_NET_OFFLINE)"),
        ("[net]\noffline = false\n", {}, ""),
        ('[registries.crates-io]\nprotocol = "git"\n', {}, ""),  # it is replaced all the same
        ('include = "more.toml"\n', {}, "config.toml includes other files"),
    ],
)
def test_what_else_keeps_cargo_from_it_is_told(text: str, environ: Mapping[str, str], says: str) -> None:
    route = routed(text + OURS, environ)
    assert route.index == INDEX
    lines = told(route)
    assert (len(lines) == 1 and says in lines[0]) if says else not lines
    assert "secret" not in " ".join(lines)


def test_the_git_protocol_counts_where_crates_io_is_not_replaced() -> None:
    assert any("clones the git index" in line for line in told(routed('[registries.crates-io]\nprotocol = "git"\n')))
    assert len(told(routed('[registries.crates-io]\nprotocol = "sparse"\n'))) == 1


@pytest.mark.parametrize(
    ("version", "says"),
    [((1, 67, 1), "1.67.1 is older than 1.68"), (None, "there is none on the PATH"), ((1, 68, 0), "")],
)
def test_a_cargo_that_knows_no_sparse_index_is_told(version: tuple[int, ...] | None, says: str) -> None:
    lines = told(routed(OURS, version=version))
    assert (says in lines[0]) if says else not lines
