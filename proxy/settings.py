"""The settings: one field each, frozen. `config/default.toml` has every default and says what each one means.

Command line, environment, file and defaults, in this order, are laid over one another; whatever is wrong with
any of them is told at once. Nothing here touches what a setting names: that a directory can be written to, a
certificate be read or a port be bound is found out by whoever does it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from proxy import settings_sources as sources
from proxy import settings_urls as urls
from proxy import settings_values as values
from proxy.errors import SettingsError
from proxy.rules.endpoints import Override
from proxy.settings_values import Kind

LONGEST_WAIT = 20.0
"""Seconds of `upstream.max_wait`: with the request itself a first byte, or why there is none, comes within 25."""

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

# It becomes a comment in the User-Agent field, where parentheses and backslashes would need escapes.
_CONTACT = values.matching(r"[ -'*-\[\]-~]{0,200}", "at most 200 ASCII characters without ( ) \\")
# Neither braces, which choose a cluster's node, nor what is special in a pattern of SCAN.
_PREFIX = values.matching(r"[A-Za-z0-9:._/-]{1,64}", "1 to 64 letters, digits and : . _ / -")
_TOKEN = values.matching(r"[!-~]*", 'ASCII without spaces, or "" for none', secret=True)

_FIELD = values.matching(r"[A-Za-z0-9-]*", 'the name of a header field, or "" for none')


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Server(_Section):
    host: Annotated[str, urls.HOST]
    port: Annotated[int, values.whole(0, 65535)]
    socket: Annotated[str, values.SOCKET]
    workers: Annotated[int, values.whole(1, 1024)]
    public_url: Annotated[str, urls.PUBLIC_URL]
    hosts: Annotated[tuple[str, ...], urls.HOSTS]
    tls_cert: Annotated[str, values.PATH]
    tls_key: Annotated[str, values.PATH]
    trusted_proxies: Annotated[tuple[str, ...], values.NETWORKS]
    max_header_bytes: Annotated[int, values.SIZE]
    max_headers: Annotated[int, values.whole(1, 10_000)]
    header_timeout: Annotated[float, values.TIMEOUT]
    body_min_rate: Annotated[int, values.RATE]
    write_timeout: Annotated[float, values.TIMEOUT]
    max_connections: Annotated[int, values.whole(1, 1_000_000)]
    max_connections_per_client: Annotated[int, values.whole(0, 1_000_000)]
    drain_timeout: Annotated[float, values.DURATION]


class Upstream(_Section):
    api: Annotated[str, urls.ORIGIN]
    index: Annotated[str, urls.ORIGIN]
    static: Annotated[str, urls.ORIGIN]
    contact: Annotated[str, _CONTACT]
    requests_per_second: Annotated[float, values.NUMBER]
    burst: Annotated[int, values.whole(1, 1000)]
    window_requests: Annotated[int, values.whole(1, 1_000_000)]
    max_wait: Annotated[float, values.DURATION]
    connect_timeout: Annotated[float, values.TIMEOUT]
    read_timeout: Annotated[float, values.TIMEOUT]
    stale_after: Annotated[float, values.DURATION]
    proxy: Annotated[str, urls.PROXY_URL] = Field(repr=False)
    ca_file: Annotated[str, values.PATH]
    offline: Annotated[bool, values.FLAG]
    renew_ceiling: Annotated[float, values.DURATION]
    follow_feed: Annotated[bool, values.FLAG]


class Cache(_Section):
    dir: Annotated[str, values.PATH]
    max_size: Annotated[int, values.SIZE]
    max_object: Annotated[int, values.SIZE]
    min_free: Annotated[int, values.SIZE]
    memory: Annotated[int, values.SIZE]
    keep: Annotated[float, values.TIMEOUT]
    pinned: Annotated[tuple[str, ...], values.several(values.PATH, "a list of paths")]


class Redis(_Section):
    url: Annotated[str, urls.REDIS_URL] = Field(repr=False)
    prefix: Annotated[str, _PREFIX]


class Access(_Section):
    read_only: Annotated[bool, values.FLAG]
    networks: Annotated[tuple[str, ...], values.NETWORKS]
    admin_token: Annotated[str, _TOKEN] = Field(repr=False)


class Stats(_Section):
    client_header: Annotated[str, _FIELD]
    clients: Annotated[dict[str, str], values.LABELS]


class Log(_Section):
    format: Annotated[Format, values.choice(*get_args(Format))]
    level: Annotated[Level, values.choice(*get_args(Level))]
    access: Annotated[bool, values.FLAG]


class Settings(_Section):
    server: Server
    upstream: Upstream
    cache: Cache
    redis: Redis
    access: Access
    stats: Stats
    log: Log
    endpoints: dict[str, Override]

    def cache_dir(self, environ: Mapping[str, str]) -> Path:
        """`cache.dir`, or where it is empty what systemd, the desktop or the home directory offers."""
        if self.cache.dir:
            return Path(self.cache.dir)
        if granted := environ.get("CACHE_DIRECTORY", "").partition(":")[0]:
            return Path(granted)
        base = Path(environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():  # the XDG base directory specification has relative ones ignored
            if not (home := environ.get("HOME", "")):
                raise SettingsError(["cache.dir: must be set where there is no $HOME"])
            base = Path(home, ".cache")
        return base / "crates-proxy"


# What can be set for each endpoint that has a ttl.
_TIMES: Mapping[str, Kind] = {
    "ttl": values.DURATION,
    "stale_while_revalidate": values.DURATION,
    "stale_if_error": values.DURATION_OR_UNLIMITED,
    "negative_ttl": values.DURATION,
}

# Settings whose feature is not there yet. Whoever adds it moves the row into a section above and a line with the
# default into default.toml.
PLANNED: Mapping[str, Kind] = {
    "blobs.url": values.matching(r"(s3://[^/ ]+(/[^ ]*)?)?", 's3://BUCKET[/PREFIX], or "" for none'),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """`origins`: key -> "default", "FILE:key", the environment's name or "command line". `notes`: for the log."""

    settings: Settings
    origins: Mapping[str, str]
    notes: tuple[str, ...]


def load(
    argv: Mapping[str, object], config: Path | None, environ: Mapping[str, str], *, endpoints: Mapping[str, bool]
) -> Loaded:
    """The settings in force. `argv` goes by keys (`server.port`), with None for an option that was not given;
    `endpoints` tells of each endpoint whether it has a ttl. Raises `SettingsError` with all that is wrong."""
    kinds = _kinds() | {
        f"endpoints.{name}.{time}": kind for name, has in endpoints.items() if has for time, kind in _TIMES.items()
    }
    known = sources.Known([*kinds, *PLANNED], [*kinds], endpoints)
    layers = [
        sources.from_toml(defaults(Path(__file__).parent).read_bytes(), "default.toml", known, origin="default"),
        sources.from_file(config, known) if config is not None else sources.Layer(),
        sources.from_environment(environ, known),
        sources.from_command_line(argv, known),
    ]
    problems = [problem for layer in layers for problem in layer.problems]
    merged: dict[str, sources.Given] = {}
    for layer in layers:
        merged |= layer.given
        problems += [
            _problem(key, raw, PLANNED[key], "not supported by this version yet; remove it")
            for key, raw in layer.given.items()
            if key in PLANNED
        ]

    given = {key: merged[key] for key in kinds if key in merged}
    found: dict[str, object] = {}
    for key, raw in given.items():
        kind = kinds[key]
        try:
            found[key] = kind.read(kind.text(str(raw.value)) if raw.text else raw.value)
        except values.Wrong as wrong:
            problems.append(_problem(key, raw, kind, str(wrong)))
        except ValueError:
            problems.append(_problem(key, raw, kind, f"must be {kind.allowed}"))
    problems += [_problem(key, given[key], kinds[key], reason) for key, reason in _contradictions(found, given, kinds)]
    if problems:
        raise SettingsError(problems)
    origins = {key: raw.origin for key, raw in given.items()}
    notes = tuple(note for layer in layers for note in layer.notes)
    return Loaded(_settings(found), origins, notes)


def _contradictions(
    found: Mapping[str, Any], given: Mapping[str, sources.Given], kinds: Mapping[str, Kind]
) -> Iterator[tuple[str, str]]:
    """Settings that are right each by itself but not together. What could not be read is in `given` only."""
    pair = ("server.tls_cert", "server.tls_key")
    for one, other in (pair, pair[::-1]):
        if found.get(one) == "" and found.get(other):
            yield one, f"must be set too where {other} is ({given[other].where(other)})"
    if found.get("server.socket"):
        for key in ("server.host", "server.port"):
            if given[key].origin != "default":
                yield "server.socket", f"excludes {key} ({given[key].where(key)}); keep one"
    if found.get("upstream.max_wait", 0.0) > LONGEST_WAIT:
        yield "upstream.max_wait", f"must not exceed {LONGEST_WAIT:g}s: clients such as cargo give up after 30s"
    total = "cache.max_size"
    if found.get("cache.max_object", 0) > found.get(total, values.MAX_SIZE):
        size = kinds[total].shown(kinds[total].show(found[total]))
        yield "cache.max_object", f"must not exceed {total} = {size} ({given[total].where(total)})"


def _problem(key: str, given: sources.Given, kind: Kind, reason: str) -> str:
    return f"{key} = {kind.shown(given.value)} ({given.where(key)}): {reason}"


def _settings(found: Mapping[str, object]) -> Settings:
    tree: dict[str, dict[str, Any]] = {name: {} for name in Settings.model_fields}
    for key, value in found.items():
        section, _, name = key.partition(".")
        endpoint, dot, time = name.partition(".")
        if dot:
            tree[section].setdefault(endpoint, {})[time] = value
        else:
            tree[section][name] = value
    overrides = {endpoint: Override(**times) for endpoint, times in tree.pop("endpoints").items()}
    return Settings.model_validate({**tree, "endpoints": overrides})


@cache
def _kinds() -> dict[str, Kind]:
    """Key -> kind of every field of every section."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {
        f"{section}.{name}": next(each for each in field.metadata if isinstance(each, Kind))
        for section, model in sections.items()
        if isinstance(model, type) and issubclass(model, _Section)
        for name, field in model.model_fields.items()
    }


def defaults(package: Path) -> Path:
    """default.toml: inside the package in a wheel, in `config` beside it in a source tree."""
    shipped = package / "default.toml"
    return shipped if shipped.exists() else package.parent / "config" / "default.toml"


def render(loaded: Loaded) -> str:
    """All settings as TOML, each with its origin; secrets are masked."""
    lines = rows(loaded)
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "".join(f"{key:<{widths[0]}} = {value:<{widths[1]}}  # {origin}\n" for key, value, origin in lines)


def rows(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Key, value as TOML with secrets masked, and origin of every setting."""
    return [(key, kind.shown(kind.show(value)), loaded.origins[key]) for key, kind, value in _rows(loaded.settings)]


def current(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """Key, value as it is, secrets too, and origin of every setting."""
    return [(key, value, loaded.origins[key]) for key, _, value in _rows(loaded.settings)]


def told(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """The same with values as a TOML file would hold them."""
    return [(key, tomllib.loads(f"value = {value}")["value"], origin) for key, value, origin in rows(loaded)]


def _rows(settings: Settings) -> Iterator[tuple[str, Kind, Any]]:
    for key, kind in _kinds().items():
        section, _, name = key.partition(".")
        yield key, kind, getattr(getattr(settings, section), name)
    for endpoint, override in settings.endpoints.items():
        for time, value in asdict(override).items():
            if value is not None:
                yield f"endpoints.{endpoint}.{time}", _TIMES[time], value
