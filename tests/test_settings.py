from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy import settings
from proxy import settings_urls as urls
from proxy import settings_values as values
from proxy.errors import SettingsError
from proxy.rules.endpoints import Override
from proxy.settings import Loaded, Settings

ROOT = Path(__file__).parent.parent
DEFAULTS = (ROOT / "config" / "default.toml").read_text()
ENDPOINTS = {"search": True, "crate": True, "crate_downloads": True, "following": False}

DURATION = 'a duration such as "250ms", "90s", "5m", "1h", "7d", or a number of seconds'
TIMEOUT = DURATION.replace("duration", "duration above 0", 1)
SIZE = 'a size such as "512MiB", "50GiB", "1GB", or a number of bytes'
ORIGIN = "http://HOST[:PORT] or https://HOST[:PORT], without path or query"
REDIS = 'redis://HOST[:PORT][/DB], rediss://HOST[:PORT][/DB], unix:///PATH, or "" for none'


class Sources:
    """What a case gives: a file of its own, variables, options."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: Path | None = None
        self.environ: dict[str, str] = {}
        self.argv: dict[str, object] = {}

    def write(self, content: str | bytes, name: str = "my.toml") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def load(self) -> Loaded:
        return settings.load(self.argv, self.file, self.environ, endpoints=ENDPOINTS)

    def problems(self) -> list[str]:
        """With the folder's name left out."""
        with pytest.raises(SettingsError) as caught:
            self.load()
        assert all("\n" not in problem for problem in caught.value.problems)
        return [problem.replace(f"{self.folder}/", "") for problem in caught.value.problems]


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def variable(key: str) -> str:
    return "CRATES_PROXY_" + key.replace(".", "__").upper()


def value(loaded: Loaded | Settings, key: str) -> object:
    section, name = key.split(".")
    found = loaded.settings if isinstance(loaded, Loaded) else loaded
    return getattr(getattr(found, section), name)


def leaves(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, each in table.items():
        # An empty table is the default of a setting that is one; sections are never empty.
        found |= leaves(each, f"{prefix}{name}.") if isinstance(each, dict) and each else {prefix + name: each}
    return found


def toml(key: str, raw: object) -> str:
    return f"{key} = {json.dumps(raw)}\n"


# --- default.toml


def fields() -> list[str]:
    found = []
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if section != "endpoints":
            assert model is not None
            found += [f"{section}.{name}" for name in model.model_fields]
    return found


def test_every_field_has_its_line_in_default_toml_and_the_other_way_round() -> None:
    assert list(leaves(tomllib.loads(DEFAULTS))) == fields()


def test_every_line_of_default_toml_has_a_comment_that_says_what_it_means() -> None:
    lines = DEFAULTS.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+ =", line):
            assert re.match(r"# .{15,}[.;]$", lines[number - 1]), line


def test_the_defaults_are_those_that_are_promised() -> None:
    assert Sources(ROOT).load().settings.model_dump() == {
        "server": {
            "host": "127.0.0.1",
            "port": 8080,
            "socket": "",
            "workers": 1,
            "public_url": "",
            "hosts": (),
            "tls_cert": "",
            "tls_key": "",
            "trusted_proxies": (),
            "max_header_bytes": 32768,
            "max_headers": 100,
            "header_timeout": 10.0,
            "body_min_rate": 1024,
            "write_timeout": 60.0,
            "max_connections": 4096,
            "max_connections_per_client": 0,
            "drain_timeout": 30.0,
        },
        "upstream": {
            "api": "https://crates.io",
            "index": "https://index.crates.io",
            "static": "https://static.crates.io",
            "contact": "",
            "requests_per_second": 1.0,
            "burst": 10,
            "window_requests": 570,
            "max_wait": 10.0,
            "connect_timeout": 5.0,
            "read_timeout": 20.0,
            "stale_after": 2.0,
            "proxy": "",
            "ca_file": "",
            "offline": False,
            "renew_ceiling": 21600.0,
            "follow_feed": False,
        },
        "cache": {
            "dir": "",
            "max_size": 50 * 2**30,
            "max_object": 512 * 2**20,
            "min_free": 2**30,
            "memory": 128 * 2**20,
            "keep": 365 * 86400.0,
            "pinned": (),
        },
        "redis": {"url": "", "prefix": "crates-proxy:"},
        "access": {"read_only": False, "networks": (), "admin_token": ""},
        "stats": {"client_header": "", "clients": {}},
        "log": {"format": "text", "level": "info", "access": False},
        "endpoints": {},
    }


def test_a_planned_setting_is_no_field() -> None:
    assert not settings.PLANNED.keys() & set(fields())


def test_the_example_in_default_toml_can_be_used(sources: Sources) -> None:
    example = DEFAULTS[DEFAULTS.index("# [endpoints.crate]") :]
    sources.file = sources.write(re.sub(r"(?m)^# ", "", example))
    assert sources.load().settings.endpoints == {"crate": Override(300.0, 300.0, 30 * 86400.0, 60.0)}


def test_default_toml_is_inside_the_package_in_a_wheel(tmp_path: Path) -> None:
    package = tmp_path / "proxy"
    package.mkdir()
    assert settings.defaults(package) == tmp_path / "config" / "default.toml"
    (package / "default.toml").touch()
    assert settings.defaults(package) == package / "default.toml"
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {"config/default.toml": "proxy/default.toml"}


# --- values: key, what TOML says, what the setting is

READ: list[tuple[str, object, object]] = [
    ("server.host", "0.0.0.0", "0.0.0.0"),
    ("server.host", "::", "::"),
    ("server.host", "[::1]", "::1"),
    ("server.host", "2001:DB8:0::1", "2001:db8::1"),
    ("server.host", "Localhost", "localhost"),
    ("server.host", "fake_crates.svc", "fake_crates.svc"),
    ("server.port", 0, 0),
    ("server.port", 65535, 65535),
    ("server.socket", "/run/proxy.sock", "/run/proxy.sock"),
    ("server.socket", "/" + "s" * 106, "/" + "s" * 106),
    ("server.workers", 1024, 1024),
    ("server.public_url", "https://Crates.example.org/", "https://crates.example.org"),
    ("server.public_url", "http://[::1]:8080/a/b//", "http://[::1]:8080/a/b"),
    ("server.hosts", [], ()),
    ("server.hosts", ["A.example", "10.0.0.1", "[::1]"], ("a.example", "10.0.0.1", "::1")),
    ("server.trusted_proxies", ["10.0.0.2", "fd00::/8"], ("10.0.0.2/32", "fd00::/8")),
    ("access.networks", ["10.0.0.0/8"], ("10.0.0.0/8",)),
    ("server.max_header_bytes", "8KiB", 8192),
    ("server.max_headers", 1, 1),
    ("server.body_min_rate", "2KiB/s", 2048),
    ("server.max_connections_per_client", 10, 10),
    ("server.drain_timeout", 0, 0.0),
    ("server.drain_timeout", 2.5, 2.5),
    ("server.drain_timeout", "250ms", 0.25),
    ("server.drain_timeout", "90s", 90.0),
    ("server.drain_timeout", "90", 90.0),
    ("server.drain_timeout", "1.5 m", 90.0),
    ("server.drain_timeout", "5m", 300.0),
    ("server.drain_timeout", "1h", 3600.0),
    ("server.drain_timeout", "7d", 604800.0),
    ("server.drain_timeout", "36500d", 3153600000.0),
    ("upstream.api", "HTTP://User.example:8000//", "http://user.example:8000"),
    ("upstream.index", "https://[::1]", "https://[::1]"),
    ("upstream.static", "https://10.0.0.1:1", "https://10.0.0.1:1"),
    ("upstream.contact", "Jo <jo@example.org>, +1 'x' [y]", "Jo <jo@example.org>, +1 'x' [y]"),
    ("upstream.contact", "x" * 200, "x" * 200),
    ("upstream.connect_timeout", "1ms", 0.001),
    ("upstream.proxy", "http://proxy:3128/", "http://proxy:3128"),
    ("upstream.proxy", "https://u:p%40@Proxy", "https://u:p%40@proxy"),
    ("upstream.ca_file", "/etc/ssl/ä b.pem", "/etc/ssl/ä b.pem"),
    ("upstream.offline", True, True),
    ("upstream.requests_per_second", 2, 2.0),
    ("upstream.burst", 1000, 1000),
    ("upstream.window_requests", 1, 1),
    ("upstream.max_wait", 0, 0.0),
    ("upstream.renew_ceiling", "1d", 86400.0),
    ("upstream.follow_feed", True, True),
    ("cache.pinned", ["/srv/a/Cargo.lock", "b/Cargo.lock"], ("/srv/a/Cargo.lock", "b/Cargo.lock")),
    ("log.access", True, True),
    ("stats.client_header", "X-Project", "X-Project"),
    ("cache.max_size", "1TiB", 2**40),
    ("cache.max_size", "1 tb", 10**12),
    ("cache.max_size", "600MB", 600_000_000),
    ("cache.max_size", 2**63 - 1, 2**63 - 1),
    ("cache.memory", 0, 0),
    ("cache.memory", "0", 0),
    ("cache.memory", "1024", 1024),
    ("cache.memory", "7B", 7),
    ("cache.memory", "1.5KiB", 1536),
    ("cache.memory", "1kb", 1000),
    ("redis.url", "redis://h", "redis://h"),
    ("redis.url", "redis://:pw@h:1/15", "redis://:pw@h:1/15"),
    ("redis.url", "rediss://u:pw@[::1]:1/?ssl_cert_reqs=none", "rediss://u:pw@[::1]:1/?ssl_cert_reqs=none"),
    ("redis.url", "unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ("redis.url", "unix://:pw@/run/redis.sock", "unix://:pw@/run/redis.sock"),
    ("redis.prefix", "a:b.c_d/e-", "a:b.c_d/e-"),
    ("access.admin_token", "s3cret!~", "s3cret!~"),
    ("log.format", "JSON", "json"),
    ("log.level", "Debug", "debug"),
    *[
        (key, "", "")
        for key in ("server.socket", "server.public_url", "upstream.proxy", "redis.url", "access.admin_token")
    ],
]


def refused(key: str, expected: str, *raws: object) -> list[tuple[str, object, str]]:
    return [(key, raw, expected) for raw in raws]


HOST = "must be a host name or an IP address"
HOSTS = 'must be a list of host names without scheme or port, such as ["crates.example.org"]'
PUBLIC_URL = 'must be an http:// or https:// URL without query, or "" for none'
PROXY_URL = 'must be http://[USER:PASSWORD@]HOST[:PORT], the same with https://, or "" for none'
NO_USER = "must carry no user or password"
LATER = "is not supported yet; redis://, rediss:// and unix:// are"

# key, what TOML says, what is said about it
REFUSED: list[tuple[str, object, str]] = [
    *refused("server.host", HOST, "", "a b", "a/b", "http://a", "a:80", "1.2.3", "1.2.3.256", "::g", "[a]", 5, ["a"]),
    *refused("server.host", HOST, "[1.2.3.4]", "-a", "a.", "é", "\u212a", "a" * 64, ".".join(["a" * 60] * 5)),
    *refused("server.port", "must be a whole number, 0 to 65535", -1, 65536, "80", 80.0, True, []),
    *refused("server.workers", "must be a whole number, 1 to 1024", 0, 1025),
    *refused(
        "server.socket", 'must be a path of at most 107 bytes, or "" for none', "/" + "s" * 107, "/" + "ä" * 54, "\n", 1
    ),
    *refused("server.public_url", PUBLIC_URL, "crates.example.org", "ftp://h", "http://", "http://h?", "http://h/?a"),
    *refused("server.public_url", PUBLIC_URL, "http://h#", "http://h/ a", "http://h/{crate}", "http://h:x", 1),
    *refused("server.public_url", PUBLIC_URL, "http://h:0", "http://h:65536", "http://[::1", "http://é"),
    *refused("server.public_url", NO_USER, "http://user@h"),
    *refused(
        "server.hosts", HOSTS, "a.example", ["a.example:80"], ["*.example"], ["http://a"], [1], [["a"]], {"a": "b"}
    ),
    *refused("server.tls_cert", 'must be a path, or "" for none', 1, "a\0"),
    *refused(
        "server.drain_timeout", f"must be {DURATION}", "", "soon", "-1s", "1h30m", "1w", "1M", "1S", "s", "36501d"
    ),
    *refused(
        "server.drain_timeout", f"must be {DURATION}", -1, -0.5, True, [1], "unlimited", "1e3", "9" * 400, 10**400
    ),
    *refused("upstream.read_timeout", f"must be {TIMEOUT}", 0, "0s", "soon"),
    *refused("upstream.api", f"must be {ORIGIN}", "", "crates.io", "ftp://crates.io", "https://", "//crates.io", 1),
    *refused("upstream.api", f"must be {ORIGIN}", "https://crates.io/api", "https://crates.io?", "https://crates.io#"),
    *refused(
        "upstream.api", f"must be {ORIGIN}", "https://crates.io:99999", "https://crates .io", "https://crates.io\n"
    ),
    *refused("upstream.index", NO_USER, "https://:pw@crates.io"),
    *refused("upstream.static", NO_USER, "https://@crates.io"),
    *refused(
        "upstream.contact", "must be at most 200 ASCII characters without ( ) \\", "a\nb", "a(b", "a)b", "a\\b", "ä"
    ),
    *refused("upstream.contact", "must be at most 200 ASCII characters without ( ) \\", "x" * 201, 1),
    *refused("upstream.proxy", PROXY_URL, "proxy:3128", "socks5://proxy", "http://proxy/x", "http://", 1),
    *refused("upstream.offline", "must be true or false", "yes", 1, 0),
    *refused(
        "cache.memory", f"must be {SIZE}", "", "big", "1M", "1G", "1 Mb/s", "-1", "0.5", "1.0001KiB", "0.5B", "1PiB"
    ),
    *refused("cache.memory", f"must be {SIZE}", "3foo", "0foo", -1, 1.5, True, 2**63, "9" * 400, []),
    *refused("cache.memory", f"must be {SIZE}", "999999999999999999.999999999TiB"),
    *refused("cache.keep", f"must be {TIMEOUT}", 0, ""),
    *refused("redis.url", f"must be {REDIS}", "h", "http://h", "redis://", "redis:h", "redis://h/x", "redis://h/0/1"),
    *refused("redis.url", f"must be {REDIS}", "redis://h:x", "unix://", "unix:///", "unix://h/path", "s3://b", 1),
    *refused("redis.url", f"must be {REDIS}", "redis://h:0"),
    *refused("redis.url", f"redis+sentinel:// {LATER}", "redis+sentinel://u:pw@h:1,i:2/main/0", "redis+sentinel://"),
    *refused("redis.url", f"redis+cluster:// {LATER}", "redis+cluster://h:1,i:2"),
    *refused("redis.prefix", "must be 1 to 64 letters, digits and : . _ / -", "", "a*", "{a}", "a b", "x" * 65, 1),
    *refused("log.format", "must be one of text, json", "", "yaml", 1),
    *refused("log.level", "must be one of debug, info, warning, error", "trace", True),
]

# key, what the environment or the command line says, what the setting is
TEXTS: list[tuple[str, str, object]] = [
    ("server.port", "8081", 8081),
    ("server.workers", "04", 4),
    ("server.hosts", "", ()),
    ("server.hosts", "a", ("a",)),
    ("server.hosts", " a , b,, ", ("a", "b")),
    ("server.hosts", ' ["a", "b"] ', ("a", "b")),
    ("server.hosts", "[]", ()),
    ("server.hosts", "[::1],a", ("::1", "a")),
    ("server.drain_timeout", "1.5", 1.5),
    ("cache.memory", "4096", 4096),
    *[("upstream.offline", text, True) for text in ("true", "1", "yes", "on", "TRUE", "On")],
    *[("upstream.offline", text, False) for text in ("false", "0", "no", "off", "False")],
    ("log.level", "WARNING", "warning"),
    ("redis.prefix", "1", "1"),
]

BAD_TEXTS: list[tuple[str, str, str]] = [
    ("server.port", "", "must be a whole number, 0 to 65535"),
    ("server.port", "-1", "must be a whole number, 0 to 65535"),
    ("server.port", "8e3", "must be a whole number, 0 to 65535"),
    ("server.port", "9" * 5000, "must be a whole number, 0 to 65535"),
    ("server.port", "٣", "must be a whole number, 0 to 65535"),
    ("upstream.offline", "", "must be true or false"),
    ("upstream.offline", "maybe", "must be true or false"),
    ("server.hosts", "[a", HOSTS),
    ("server.hosts", "[" * 100_000, HOSTS),
    ("server.tls_cert", "/a\udcff", 'must be a path, or "" for none'),
]


@pytest.mark.parametrize(("key", "raw", "expected"), READ)
def test_a_value_is_read_from_toml(sources: Sources, key: str, raw: object, expected: object) -> None:
    sources.file = sources.write(toml(key, raw))
    loaded = sources.load()
    assert value(loaded, key) == expected
    assert type(value(loaded, key)) is type(expected)
    assert loaded.origins[key] == f"{sources.file}:{key}"


@pytest.mark.parametrize(("key", "raw", "expected"), REFUSED)
def test_a_value_that_is_not_allowed_is_told_with_what_is(
    sources: Sources, key: str, raw: object, expected: str
) -> None:
    if isinstance(raw, dict):
        sources.file = sources.write(f"[{key}]\na = 'b'\n")
    else:
        sources.file = sources.write(toml(key, raw))
    assert [problem.rpartition(" (my.toml): ")[2] for problem in sources.problems()] == [expected]


@pytest.mark.parametrize("literal", ["nan", "inf", "-inf", "1979-05-27", "07:32:00"])
def test_what_only_toml_can_say_is_refused_too(sources: Sources, literal: str) -> None:
    sources.file = sources.write(f"server.drain_timeout = {literal}")
    assert len(sources.problems()) == 1


@pytest.mark.parametrize(("key", "text", "expected"), TEXTS)
def test_a_text_is_read_from_the_environment_and_the_command_line(
    sources: Sources, key: str, text: str, expected: object
) -> None:
    sources.environ = {variable(key): text}
    loaded = sources.load()
    assert value(loaded, key) == expected
    assert loaded.origins[key] == variable(key)
    sources.environ, sources.argv = {}, {key: text}
    loaded = sources.load()
    assert value(loaded, key) == expected
    assert loaded.origins[key] == "command line"


@pytest.mark.parametrize(("key", "text", "expected"), BAD_TEXTS)
def test_a_text_that_is_not_allowed_is_told_with_its_variable(
    sources: Sources, key: str, text: str, expected: str
) -> None:
    sources.environ = {variable(key): text}
    assert [problem.rpartition(f" ({variable(key)}): ")[2] for problem in sources.problems()] == [expected]


@pytest.mark.parametrize(("key", "raw"), [("server.port", 8081), ("upstream.offline", True), ("server.hosts", ("a",))])
def test_options_may_have_their_types_already(sources: Sources, key: str, raw: object) -> None:
    sources.argv = {key: raw}
    assert value(sources.load(), key) == raw


def test_an_option_that_was_not_given_changes_nothing(sources: Sources) -> None:
    sources.argv = {"server.port": None}
    assert sources.load().origins["server.port"] == "default"


# --- values of planned settings: the kinds are there, and their documented defaults can be read

PLANNED_DEFAULTS: dict[str, tuple[object, object]] = {
    "blobs.url": ("", ""),
}


@pytest.mark.parametrize("key", settings.PLANNED)
def test_a_planned_kind_can_read_its_default(key: str) -> None:
    raw, expected = PLANNED_DEFAULTS[key]
    kind = settings.PLANNED[key]
    assert kind.read(raw) == expected
    assert kind.read(kind.show(kind.read(raw))) == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (values.NETWORKS, "10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        (values.NETWORKS, '["10.0.0.1"]', ("10.0.0.1/32",)),
        (values.LABELS, '{"10.0.0.0/8": "office"}', {"10.0.0.0/8": "office"}),
        (values.NUMBER, "2.5", 2.5),
        (values.NUMBER, "2", 2.0),
        (values.RATE, "2KB/s", 2000),
        (values.RATE, "7", 7),
    ],
)
def test_a_text_is_read_for_what_is_planned(kind: values.Kind, text: str, expected: object) -> None:
    assert kind.read(kind.text(text)) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (values.NETWORKS, "10.0.0.1/8"),
        (values.NETWORKS, "office"),
        (values.NETWORKS, "::ffff:10.0.0.0/104"),
        (values.NETWORKS, "[1]"),
        (values.LABELS, "{"),
        (values.LABELS, '{"office": "x"}'),
        (values.LABELS, '{"10.0.0.0/8": 1}'),
        (values.LABELS, "[]"),
        (values.NUMBER, "fast"),
        (values.NUMBER, "0"),
        (values.RATE, "1KiB/m"),
        (values.RATE, "fast/s"),
    ],
)
def test_a_text_is_refused_for_what_is_planned(kind: values.Kind, text: str) -> None:
    with pytest.raises(ValueError):
        kind.read(kind.text(text))


@pytest.mark.parametrize(("rate", "expected"), [(1024, "1KiB/s"), (7, "7B/s"), (0, "0B/s")])
def test_a_rate_is_printed_as_it_is_written(rate: int, expected: str) -> None:
    assert values.RATE.show(rate) == expected
    assert values.RATE.read(expected) == rate


# --- where settings come from


def test_command_line_wins_over_environment_over_file_over_defaults(sources: Sources) -> None:
    sources.file = sources.write("[server]\nport = 1\nworkers = 2\ndrain_timeout = '3s'")
    sources.environ = {"CRATES_PROXY_SERVER__PORT": "10", "CRATES_PROXY_SERVER__WORKERS": "20"}
    sources.argv = {"server.port": 100}
    loaded = sources.load()
    server = loaded.settings.server
    assert (server.port, server.workers, server.drain_timeout, server.host) == (100, 20, 3.0, "127.0.0.1")
    assert [loaded.origins[f"server.{name}"] for name in ("port", "workers", "drain_timeout", "host")] == [
        "command line",
        "CRATES_PROXY_SERVER__WORKERS",
        f"{sources.file}:server.drain_timeout",
        "default",
    ]


def test_every_setting_has_an_origin(sources: Sources) -> None:
    assert list(sources.load().origins) == fields()


def test_what_is_overridden_need_not_be_right(sources: Sources) -> None:
    sources.file = sources.write("server.port = 'x'")
    sources.argv = {"server.port": 1}
    assert sources.load().settings.server.port == 1


def test_a_variable_can_name_a_file(sources: Sources) -> None:
    sources.environ = {
        "CRATES_PROXY_REDIS__URL_FILE": str(sources.write("redis://h\n", "url")),
        "CRATES_PROXY_ACCESS__ADMIN_TOKEN_FILE": str(sources.write("token\r\n", "token")),
        "CRATES_PROXY_UPSTREAM__CA_FILE": "/ca.pem",
        "CRATES_PROXY_UPSTREAM__CONTACT_FILE": str(sources.write(" me ", "contact")),
        "CRATES_PROXY_SERVER__PORT_FILE": str(sources.write("1", "port")),
    }
    loaded = sources.load()
    assert loaded.settings.redis.url == "redis://h"
    assert loaded.settings.access.admin_token == "token"
    assert loaded.settings.upstream.ca_file == "/ca.pem"
    assert loaded.settings.upstream.contact == " me "
    assert loaded.settings.server.port == 1
    assert loaded.origins["redis.url"] == "CRATES_PROXY_REDIS__URL_FILE"
    sources.environ = {"CRATES_PROXY_UPSTREAM__CA_FILE_FILE": str(sources.write("/other.pem", "ca"))}
    assert sources.load().settings.upstream.ca_file == "/other.pem"


def test_only_one_line_end_is_taken_off_a_file(sources: Sources) -> None:
    path = sources.write("/ca.pem\n\n", "ca")
    sources.environ = {"CRATES_PROXY_UPSTREAM__CA_FILE_FILE": str(path)}
    assert sources.problems() == [
        'upstream.ca_file = "/ca.pem\\n" (CRATES_PROXY_UPSTREAM__CA_FILE_FILE): must be a path, or "" for none'
    ]


def test_a_file_that_a_variable_names_must_be_readable_text(sources: Sources) -> None:
    sources.environ = {
        "CRATES_PROXY_REDIS__URL_FILE": str(sources.folder / "none"),
        "CRATES_PROXY_SERVER__PORT_FILE": "",
        "CRATES_PROXY_UPSTREAM__CONTACT_FILE": str(sources.write(b"\xff", "latin")),
    }
    assert sources.problems() == [
        "redis.url (CRATES_PROXY_REDIS__URL_FILE): 'none' cannot be read: No such file or directory",
        "server.port (CRATES_PROXY_SERVER__PORT_FILE): '' cannot be read: Is a directory",
        "upstream.contact (CRATES_PROXY_UPSTREAM__CONTACT_FILE): 'latin' is not UTF-8 text",
    ]


def test_a_variable_and_its_file_exclude_each_other(sources: Sources) -> None:
    sources.environ = {"CRATES_PROXY_REDIS__URL": "redis://h", "CRATES_PROXY_REDIS__URL_FILE": "/run/url"}
    assert sources.problems() == [
        "redis.url: set by both CRATES_PROXY_REDIS__URL and CRATES_PROXY_REDIS__URL_FILE; keep one"
    ]


def test_variables_of_others_are_ignored_with_one_note(sources: Sources) -> None:
    sources.environ = {
        "HOME": "/root",
        "REDIS__URL": "redis://h",
        "CRATES_PROXYREDIS__URL": "x",
        "CRATES_PROXY_PORT": "tcp://10.0.0.1:80",
        "CRATES_PROXY_PORT_80_TCP_ADDR": "10.0.0.1",
        "CRATES_PROXY_": "",
    }
    loaded = sources.load()
    assert loaded.notes == (
        "ignored CRATES_PROXY_, CRATES_PROXY_PORT, CRATES_PROXY_PORT_80_TCP_ADDR:"
        " settings are spelt CRATES_PROXY_SECTION__NAME",
    )
    assert set(loaded.origins.values()) == {"default"}


def test_without_such_variables_there_is_no_note(sources: Sources) -> None:
    assert sources.load().notes == ()


# --- what is no setting


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[server]\nhst = 'x'", "server.hst (my.toml): no such setting; did you mean server.host, server.hosts or"),
        ("[cach]\ndir = 'x'", "cach.dir (my.toml): no such setting; did you mean cache.dir?"),
        ("port = 1", "port (my.toml): no such setting; did you mean server.port?"),
        ("[foo]", "foo (my.toml): no such setting"),
        ("[foo.bar]\nzzz = 1", "foo.bar.zzz (my.toml): no such setting"),
        ("server = 1", "server (my.toml): a section, not a setting"),
        ("[[server]]", "server (my.toml): a section, not a setting"),
        ("endpoints.crate = 1", "endpoints.crate (my.toml): a section, not a setting"),
        ('"server.port" = 1', '"server.port" (my.toml): no such setting; did you mean server.port or server.host?'),
        ('"" = 1', '"" (my.toml): no such setting'),
        ("server.port.x = 1", 'server.port = {"x" = 1} (my.toml): must be a whole number, 0 to 65535'),
        ("[endpoints.crat]\nttl = 1", "endpoints.crat.ttl (my.toml): no such endpoint; did you mean crate?"),
        ("[endpoints.crat]", "endpoints.crat (my.toml): no such endpoint; did you mean crate?"),
        (
            "[endpoints.zzz]\nttl = 1",
            "endpoints.zzz.ttl (my.toml): no such endpoint; did you mean crate, crate_downloads, following or search?",
        ),
        ("[endpoints.crate]\ntll = 1", "endpoints.crate.tll (my.toml): no such setting; did you mean endpoints.crate."),
        (
            "[endpoints.following]\nttl = 1",
            "endpoints.following.ttl (my.toml): the endpoint following has no ttl and takes no times",
        ),
        (
            "[endpoints.following]",
            "endpoints.following (my.toml): the endpoint following has no ttl and takes no times",
        ),
    ],
)
def test_a_key_that_is_none_is_told_with_its_neighbours(sources: Sources, content: str, expected: str) -> None:
    sources.file = sources.write(content)
    (problem,) = sources.problems()
    assert problem.startswith(expected)
    assert problem == expected or expected[-1] in "r."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("REDIS__ULR", "no such setting; did you mean CRATES_PROXY_REDIS__URL?"),
        ("redis__url", "no such setting; did you mean CRATES_PROXY_REDIS__URL?"),
        ("XYZZY__QQ", "no such setting"),
        ("ENDPOINTS__CRAT__TTL", "no such endpoint; did you mean crate?"),
        ("ENDPOINTS__FOLLOWING__TTL", "the endpoint following has no ttl and takes no times"),
        ("ENDPOINTS__CRATE", "a section, not a setting"),
    ],
)
def test_a_variable_with_two_underscores_must_be_known(sources: Sources, name: str, expected: str) -> None:
    sources.environ = {f"CRATES_PROXY_{name}": "x"}
    assert sources.problems() == [f"CRATES_PROXY_{name} (environment): {expected}"]


def test_an_option_must_be_known(sources: Sources) -> None:
    sources.argv = {"server.prot": 1}
    (problem,) = sources.problems()
    assert problem.startswith("server.prot (command line): no such setting; did you mean server.port")


def test_empty_sections_are_none_of_our_business(sources: Sources) -> None:
    sources.file = sources.write("[server]\n[stats]\n[endpoints]\n[endpoints.crate]")
    assert set(sources.load().origins.values()) == {"default"}


@pytest.mark.parametrize("key", settings.PLANNED)
def test_a_planned_setting_is_refused_as_such(sources: Sources, key: str) -> None:
    raw, _ = PLANNED_DEFAULTS[key]
    sources.file = sources.write(toml(key, raw))
    sources.environ = {variable(key): "1"}
    why = "not supported by this version yet; remove it"
    assert sources.problems() == [
        f"{key} = {json.dumps(raw)} (my.toml): {why}",
        f'{key} = "1" ({variable(key)}): {why}',
    ]


@pytest.mark.parametrize(
    "text", ['[stats.clients]\n"10.0.0.0/8" = "office"', '[stats]\nclients = {"10.0.0.0/8" = "office"}']
)
def test_a_setting_may_be_a_table(sources: Sources, text: str) -> None:
    sources.file = sources.write(text)
    loaded = sources.load()
    assert loaded.settings.stats.clients == {"10.0.0.0/8": "office"}
    assert loaded.origins["stats.clients"] == f"{sources.file}:stats.clients"
    printed = settings.render(loaded)
    (line,) = [line for line in printed.splitlines() if line.startswith("stats.clients ")]
    again = tomllib.loads(line)  # what is printed is TOML
    assert again["stats"]["clients"] == {"10.0.0.0/8": "office"}


def test_a_table_in_the_environment_is_json_and_replaces_that_of_the_file(sources: Sources) -> None:
    sources.file = sources.write('[stats.clients]\n"10.0.0.0/8" = "office"')
    sources.environ = {"CRATES_PROXY_STATS__CLIENTS": '{"fd00::/8": "ci: a, b"}'}
    assert sources.load().settings.stats.clients == {"fd00::/8": "ci: a, b"}


@pytest.mark.parametrize(
    "text",
    [
        '{"10.0.0.0/8": ""}',
        '{"10.0.0.0/8": 1}',
        '{"10.0.0.1/8": "host bits"}',
        '{"office": "10.0.0.0/8"}',
        f'{{"10.0.0.0/8": "{65 * "x"}"}}',
        '{"10.0.0.0/8": "a\\tb"}',
        '["10.0.0.0/8"]',
        "10.0.0.0/8=office",
    ],
)
def test_a_table_of_labels_has_networks_and_short_labels(sources: Sources, text: str) -> None:
    sources.environ = {"CRATES_PROXY_STATS__CLIENTS": text}
    (problem,) = sources.problems()
    assert problem.startswith("stats.clients = ")
    assert problem.endswith(
        'must be a table of networks and labels (1 to 64 characters) such as {"10.0.0.0/8" = "office"}'
    )


def test_s3_is_refused_by_name(sources: Sources) -> None:
    sources.file = sources.write('blobs.url = "s3://bucket/prefix"')
    assert sources.problems() == [
        'blobs.url = "s3://bucket/prefix" (my.toml): not supported by this version yet; remove it'
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[server\n", "my.toml: not TOML: Expected ']' at the end of a table declaration (at line 1, column 8)"),
        (b"\nserver.port = \n", "my.toml: not TOML: Invalid value (at line 2, column 15)"),
        (b"a = 1\na = 2\n", "my.toml: not TOML: Cannot overwrite a value (at line 2, column 6)"),
        (b"[server]\n\xff = 1", "my.toml: not UTF-8 (at line 2)"),
        (b"a = " + b"9" * 5000, "my.toml: not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 100_000, "my.toml: not TOML: maximum recursion depth"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_the_line(sources: Sources, content: bytes, expected: str) -> None:
    sources.file = sources.write(content)
    (problem,) = sources.problems()
    assert problem.startswith(expected)


def test_a_file_that_is_not_there_is_no_default(sources: Sources) -> None:
    sources.file = sources.folder / "none.toml"
    sources.environ = {"CRATES_PROXY_SERVER__PORT": "x"}
    assert sources.problems() == [
        "none.toml: cannot be read: No such file or directory",
        'server.port = "x" (CRATES_PROXY_SERVER__PORT): must be a whole number, 0 to 65535',
    ]


# --- endpoints


def test_an_endpoint_has_the_times_that_are_set(sources: Sources) -> None:
    sources.file = sources.write("[endpoints.crate]\nttl = '5m'\nstale_if_error = 'unlimited'")
    sources.environ = {
        "CRATES_PROXY_ENDPOINTS__CRATE__TTL": "0",
        "CRATES_PROXY_ENDPOINTS__CRATE_DOWNLOADS__STALE_WHILE_REVALIDATE": "1h",
        "CRATES_PROXY_ENDPOINTS__CRATE_DOWNLOADS__NEGATIVE_TTL": "90",
    }
    loaded = sources.load()
    assert loaded.settings.endpoints == {
        "crate": Override(ttl=0.0, stale_if_error=math.inf),
        "crate_downloads": Override(stale_while_revalidate=3600.0, negative_ttl=90.0),
    }
    assert loaded.origins["endpoints.crate.ttl"] == "CRATES_PROXY_ENDPOINTS__CRATE__TTL"


def test_only_stale_if_error_can_be_unlimited(sources: Sources) -> None:
    sources.file = sources.write("[endpoints.crate]\nttl = 'unlimited'\nstale_if_error = 'for ever'")
    assert sources.problems() == [
        f'endpoints.crate.ttl = "unlimited" (my.toml): must be {DURATION}',
        f'endpoints.crate.stale_if_error = "for ever" (my.toml): must be "unlimited" or {DURATION}',
    ]


# --- settings that do not go together


@pytest.mark.parametrize(
    ("content", "argv", "expected"),
    [
        (
            "server.tls_cert = '/c'",
            {},
            ['server.tls_key = "" (default): must be set too where server.tls_cert is (my.toml)'],
        ),
        (
            "server.tls_key = '/k'\nserver.tls_cert = ''",
            {},
            ['server.tls_cert = "" (my.toml): must be set too where server.tls_key is (my.toml)'],
        ),
        ("server.tls_cert = '/c'\nserver.tls_key = '/k'", {}, []),
        ("server.socket = '/s'", {}, []),
        ("server.socket = ''\nserver.port = 1", {}, []),
        (
            "server.socket = '/s'\nserver.port = 8080",
            {"server.host": "::1"},
            [
                'server.socket = "/s" (my.toml): excludes server.host (command line); keep one',
                'server.socket = "/s" (my.toml): excludes server.port (my.toml); keep one',
            ],
        ),
        (
            "cache.max_size = '100MiB'",
            {},
            ['cache.max_object = "512MiB" (default): must not exceed cache.max_size = "100MiB" (my.toml)'],
        ),
        ("cache.max_size = '100MiB'\ncache.max_object = '100MiB'", {}, []),
        (
            "upstream.max_wait = '21s'",
            {},
            ['upstream.max_wait = "21s" (my.toml): must not exceed 20s: clients such as cargo give up after 30s'],
        ),
        ("upstream.max_wait = '20s'", {}, []),
        ("cache.max_size = 1000000\ncache.max_object = '1MB'", {}, []),
    ],
)
def test_some_settings_do_not_go_together(
    sources: Sources, content: str, argv: dict[str, object], expected: list[str]
) -> None:
    sources.file = sources.write(content)
    sources.argv = argv
    assert (sources.problems() if expected else [str(sources.load().notes)][1:]) == expected


def test_nothing_is_held_against_what_could_not_be_read(sources: Sources) -> None:
    sources.file = sources.write(
        "cache.max_size = 'x'\nserver.tls_cert = 1\nserver.tls_key = '/k'\nserver.socket = 1\nserver.port = 1"
    )
    assert len(sources.problems()) == 3
    sources.file = sources.write("cache.max_object = 'x'\ncache.max_size = 1")
    assert len(sources.problems()) == 1


def test_everything_that_is_wrong_is_told_at_once(sources: Sources) -> None:
    sources.file = sources.write("""
        prot = 1
        [server]
        workers = "3"
        socket = "/s"
        [access]
        admin_token = "two words"
        [blobs]
        url = "s3://b"
        [endpoints.crat]
        ttl = 5
    """)
    sources.environ = {
        "CRATES_PROXY_REDIS__URL": "redis+sentinel://:pw@h:1/main/0",
        "CRATES_PROXY_CACHE__DRI": "/x",
        "CRATES_PROXY_CACHE__MAX_SIZE": "1MiB",
    }
    sources.argv = {"server.port": 80, "server.drain_timeout": "soon"}
    assert sources.problems() == [
        "prot (my.toml): no such setting",
        "endpoints.crat.ttl (my.toml): no such endpoint; did you mean crate?",
        "CRATES_PROXY_CACHE__DRI (environment): no such setting; did you mean CRATES_PROXY_CACHE__DIR?",
        'blobs.url = "s3://b" (my.toml): not supported by this version yet; remove it',
        'server.workers = "3" (my.toml): must be a whole number, 1 to 1024',
        f'server.drain_timeout = "soon" (command line): must be {DURATION}',
        'redis.url = "redis+sentinel://:****@h:1/main/0" (CRATES_PROXY_REDIS__URL):'
        " redis+sentinel:// is not supported yet; redis://, rediss:// and unix:// are",
        'access.admin_token = "****" (my.toml): must be ASCII without spaces, or "" for none',
        'server.socket = "/s" (my.toml): excludes server.port (command line); keep one',
        'cache.max_object = "512MiB" (default): must not exceed cache.max_size = "1MiB" (CRATES_PROXY_CACHE__MAX_SIZE)',
    ]


# --- secrets

SECRETS: list[tuple[str, object, str]] = [
    ("access.admin_token", "pass word", '"****"'),
    ("access.admin_token", 5150, '"****"'),
    ("access.admin_token", ["pass"], '"****"'),
    ("redis.url", "http://:pass@h", '"http://:****@h"'),
    ("redis.url", "http://user:pass@h", '"http://user:****@h"'),
    ("redis.url", "http://pass@h", '"http://****@h"'),
    ("redis.url", "redis://u:pa@ss/@h", '"redis://u:****@h"'),
    ("redis.url", "redis:u:pass@h", '"****"'),
    ("redis.url", ["redis://:pass@h"], '["redis://:****@h"]'),
    ("redis.url", "http://h?password=pass&db=1", '"http://h?password=****&db=1"'),
    ("upstream.proxy", "socks5://u:pass@h", '"socks5://u:****@h"'),
    ("server.host", "redis://u:pass@h", '"redis://u:****@h"'),
    ("stats.clients", {"a": "redis://u:pass@h"}, '{"a" = "redis://u:****@h"}'),
]


@pytest.mark.parametrize(("key", "raw", "expected"), SECRETS)
def test_no_problem_tells_a_secret(sources: Sources, key: str, raw: object, expected: str) -> None:
    if isinstance(raw, dict):
        sources.file = sources.write(f"[{key}]\na = {json.dumps(raw['a'])}")
    else:
        sources.file = sources.write(toml(key, raw))
    (problem,) = sources.problems()
    assert problem.startswith(f"{key} = {expected} (my.toml): ")
    assert "pass" not in problem.partition("): ")[0].replace("password=", "")


def test_a_misspelt_secret_is_not_told_either(sources: Sources) -> None:
    sources.file = sources.write("[access]\nadmin_tokn = 'secret'\n[redis]\nulr = 'secret'")
    sources.environ = {"CRATES_PROXY_ACCESS__ADMIN_TOKN": "secret"}
    sources.argv = {"access.tokn": "secret"}
    problems = sources.problems()
    assert len(problems) == 4
    assert "secret" not in "\n".join(problems)


def test_neither_repr_nor_render_tells_a_secret(sources: Sources) -> None:
    sources.environ = {
        "CRATES_PROXY_ACCESS__ADMIN_TOKEN": "hunter2",
        "CRATES_PROXY_REDIS__URL": "redis://u:hunter2@h",
        "CRATES_PROXY_UPSTREAM__PROXY": "http://u:hunter2@h",
    }
    loaded = sources.load()
    assert "hunter2" not in repr(loaded) + str(loaded.settings)
    assert "hunter2" not in settings.render(loaded)
    found = leaves(tomllib.loads(settings.render(loaded)))
    assert found["access.admin_token"] == "****"
    assert found["redis.url"] == "redis://u:****@h"
    assert found["upstream.proxy"] == "http://u:****@h"


# --- printing


def test_what_is_printed_is_aligned_toml_with_origins(sources: Sources) -> None:
    sources.file = sources.write("server.hosts = ['a', 'b']\nendpoints.search.stale_if_error = 'unlimited'")
    sources.environ = {"CRATES_PROXY_SERVER__DRAIN_TIMEOUT": "120"}
    text = settings.render(sources.load())
    lines = text.splitlines()
    assert len({line.index(" = ") for line in lines}) == len({line.index("  # ") for line in lines}) == 1
    assert text.endswith("\n")
    parts = [re.split(r" += |  +# ", line.replace(f"{sources.folder}/", "")) for line in lines]
    told = {key: (text, origin) for key, text, origin in parts}
    assert told["server.hosts"] == ('["a", "b"]', "my.toml:server.hosts")
    assert told["server.drain_timeout"] == ('"2m"', "CRATES_PROXY_SERVER__DRAIN_TIMEOUT")
    assert told["server.port"] == ("8080", "default")
    assert told["upstream.offline"] == ("false", "default")
    assert told["cache.max_size"] == ('"50GiB"', "default")
    assert told["cache.keep"] == ('"365d"', "default")
    assert told["endpoints.search.stale_if_error"] == ('"unlimited"', "my.toml:endpoints.search.stale_if_error")


@pytest.mark.parametrize(("key", "raw", "expected"), READ)
def test_what_is_printed_gives_the_same_settings_again(
    sources: Sources, key: str, raw: object, expected: object
) -> None:
    sources.file = sources.write(toml(key, raw))
    loaded = sources.load()
    text = settings.render(loaded)
    if key != "server.socket" or not raw:
        kept = text
    else:  # printed, the defaults of host and port look as if they had been set
        kept = "".join(line for line in text.splitlines(True) if not line.startswith(("server.host ", "server.port ")))
    sources.file = sources.write(kept)
    again = sources.load().settings
    if "****" in text:
        assert value(again, key) != expected
    else:
        assert again == loaded.settings


@given(st.floats(0, 36_500 * 86_400.0) | st.integers(0, 10**9).map(float) | st.just(math.inf))
def test_every_duration_is_printed_as_it_can_be_read(seconds: float) -> None:
    kind = values.DURATION_OR_UNLIMITED
    assert kind.read(kind.show(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "0s"), (0.25, "250ms"), (1.5, "1500ms"), (90.0, "90s"), (5400.0, "90m"), (604800.0, "7d"), (1e-05, 1e-05)],
)
def test_a_duration_is_printed_in_its_largest_unit(seconds: float, expected: object) -> None:
    assert values.DURATION.show(seconds) == expected


@given(st.integers(0, 2**63 - 1) | st.integers(0, 10**6).map(lambda count: count * 1000))
def test_every_size_is_printed_as_it_can_be_read(size: int) -> None:
    assert values.SIZE.read(values.SIZE.show(size)) == size


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 0), (7, 7), (1000, "1KB"), (1024, "1KiB"), (1024000, "1000KiB"), (50 * 10**9, "50GB"), (2**40, "1TiB")],
)
def test_a_size_is_printed_in_its_largest_unit(size: int, expected: object) -> None:
    assert values.SIZE.show(size) == expected


@given(st.text())
def test_no_text_can_upset_a_kind(text: str) -> None:
    kinds = [each for each in (vars(values) | vars(urls)).values() if isinstance(each, values.Kind)]
    assert len(kinds) > 15
    for kind in kinds:
        try:
            kind.read(kind.text(text))
        except ValueError:
            assert "\n" not in kind.shown(text)


# --- the settings themselves


def test_settings_are_frozen(sources: Sources) -> None:
    found = sources.load().settings
    with pytest.raises(ValidationError):
        found.server.port = 1


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/data", {"CACHE_DIRECTORY": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/data"),
        ("", {"CACHE_DIRECTORY": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ("", {"CACHE_DIRECTORY": "/c:/d"}, "/c"),
        ("", {"CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/crates-proxy"),
        ("", {"HOME": "/h"}, "/h/.cache/crates-proxy"),
        ("", {"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/crates-proxy"),
        ("", {"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/crates-proxy"),
    ],
)
def test_the_cache_is_where_the_environment_offers_room(
    sources: Sources, configured: str, environ: dict[str, str], expected: str
) -> None:
    sources.argv = {"cache.dir": configured}
    assert sources.load().settings.cache_dir(environ) == Path(expected)


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}])
def test_without_a_home_the_cache_needs_a_place(sources: Sources, environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"^cache.dir: must be set where there is no \$HOME$"):
        sources.load().settings.cache_dir(environ)
