"""Where cargo goes for crates.io, by its configuration, and why that is not this proxy.

Pure: what the configuration comes to (`cargo_config`), the environment and the proxy's address are arguments. Whether
anybody answers there is for others to find out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from proxy.rules import cargo_config, no_proxy
from proxy.rules.cargo_config import Merged, Said
from proxy.rules.findings import Finding, fail, ok, warn

CRATES_IO = "crates-io"
SPARSE = "sparse+"
OLDEST = (1, 68)
"""The first cargo that knows the sparse protocol without being asked to."""
_KINDS = ("registry", "directory", "local-registry", "git")
"""What a source may be, each by a key of this name."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WRITE = "`crates-proxy setup` prints the lines, `setup --write` writes them"


@dataclass(frozen=True, slots=True)
class Route:
    """`index`: the URL, without `sparse+`, at which cargo looks for crates.io's index; "" where that is not over
    HTTP, or not known. `findings`: what there is to say about it."""

    index: str
    findings: tuple[Finding, ...]


def route(config: Merged, environ: Mapping[str, str], base: str, version: tuple[int, ...] | None) -> Route:
    """`base`: where clients reach this proxy, such as http://127.0.0.1:8080; "" where nobody knows. `version`: of
    cargo, None where there is none."""
    findings = [*_version(version), *_files(config)]
    index, source = _source(config, environ, base)
    findings += source
    if index:
        findings += [*_registries(config, f"{base}/index/" if base else index), *_intercepted(config, environ, index)]
    findings += [*_offline(config), *_protocol(config, replaced=bool(index))]
    return Route(index, tuple(findings))


def _version(version: tuple[int, ...] | None) -> Iterator[Finding]:
    if version is None:
        yield warn("cargo", "there is none on the PATH", "install it, or run this where builds run")
    elif version < OLDEST:
        told = ".".join(map(str, version))
        yield fail("cargo", f"{told} is older than 1.68, which first knows sparse+http", "update it: rustup update")
    else:
        yield ok("cargo", ".".join(map(str, version)))


def _files(config: Merged) -> Iterator[Finding]:
    for path, problem in config.problems.items():
        yield fail("cargo configuration", f"{path}: {problem}", "mend it: cargo stops there")
    for path in config.included:
        yield warn("cargo configuration", f"{path} includes other files, which were not looked at")


def _source(config: Merged, environ: Mapping[str, str], base: str) -> tuple[str, list[Finding]]:
    """The index that crates.io is replaced by, and what there is to say about that."""
    name, passed = CRATES_IO, [CRATES_IO]
    while (following := config.get("source", name, "replace-with")) is not None:
        name = str(following.value)
        if name in passed:
            way = " -> ".join([*passed, name])
            return "", [fail("cargo source", f"{way}: a circle ({following.where})", "name a source that has an index")]
        passed.append(name)
    if name == CRATES_IO:
        return "", [_not_replaced(config, environ)]
    table = config.table("source", name)
    if len(several := [kind for kind in _KINDS if kind in table]) > 1:
        told = " and ".join(f"{kind} ({table[kind].where})" for kind in several)
        return "", [fail("cargo source", f"[source.{name}] has {told}, of which cargo takes one", "remove the others")]
    found = table.get("registry") or config.get("registries", name, "index")
    if found is not None:
        return _index(f"[source.{name}] registry" if "registry" in table else f"[registries.{name}] index", found, base)
    for kind in _KINDS:
        if kind in table:
            said = table[kind]
            told = f"[source.{name}] {kind} = {said.value!r} ({said.where})"
            detail = f"{told} replaces crates.io: cargo asks no registry"
            return "", [warn("cargo source", detail, "if that is not meant, " + _WRITE)]
    detail = f"crates-io is replaced by {name!r}, and no file that cargo reads defines [source.{name}]"
    return "", [fail("cargo source", detail, _WRITE)]


def _not_replaced(config: Merged, environ: Mapping[str, str]) -> Finding:
    if variables := cargo_config.ignored(environ):
        detail = f"cargo asks crates.io itself: it reads sources from files only, and {variables[0]} is not one"
        return fail("cargo source", detail, _WRITE)
    for name in config.names("source"):
        if said := config.get("source", name, "replace-with"):
            detail = (
                f"cargo asks crates.io itself: [source.{name}] ({said.where}) has the replace-with, and the source's"
                " name is crates-io"
            )
            return fail("cargo source", detail, "rename it to [source.crates-io]")
    detail = "cargo asks crates.io itself: no file that it reads from here has replace-with in [source.crates-io]"
    return fail("cargo source", detail, _WRITE)


def _index(what: str, said: Said, base: str) -> tuple[str, list[Finding]]:
    text = str(said.value)
    told = f"{what} = {text!r} ({said.where})"
    if problem := _malformed(text):
        return "", [fail("cargo source", f"{told} {problem[0]}", problem[1])]
    index = text.removeprefix(SPARSE)
    theirs = urlsplit(index)
    if not base or _same(theirs, urlsplit(f"{base}/index/")):
        return index, [ok("cargo source", f"crates.io is replaced by {index} ({said.where})")]
    ours = urlsplit(f"{base}/index/")
    if theirs.hostname == ours.hostname and theirs.port == ours.port and theirs.scheme != ours.scheme:
        detail = f"{told} is {theirs.scheme}, and this proxy is reached over {ours.scheme}"
    elif theirs.netloc == ours.netloc:
        detail = f"{told} has another path than the index, which is {base}/index/"
    else:
        detail = f"{told} is another address than {base}"
    return index, [warn("cargo source", detail, "if this proxy is meant, " + _WRITE)]


def _malformed(index: str) -> tuple[str, str] | None:
    """Why a URL is none of a sparse index, and what to do."""
    if not index.startswith(SPARSE):
        return "is a git repository to cargo, which clones it", f'put {SPARSE} before it: "{SPARSE}{index}"'
    if not index.endswith("/"):
        return "does not end in a slash, which cargo refuses", f'add it: "{index}/"'
    return None


def _same(one: SplitResult, other: SplitResult) -> bool:
    """Do they mean the same place? This machine has several names for itself."""
    alike = one.hostname == other.hostname or (one.hostname in _LOOPBACK and other.hostname in _LOOPBACK)
    return alike and _port(one) == _port(other) and (one.scheme, one.path) == (other.scheme, other.path)


def _port(url: SplitResult) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


def _registries(config: Merged, index: str) -> Iterator[Finding]:
    """`cargo --registry NAME`, for search, publish, yank and owner, goes by another table."""
    what = "cargo --registry"
    ours = urlsplit(index)
    named = []
    for name in config.names("registries"):
        said = config.get("registries", name, "index")
        if said is None:
            continue
        text = str(said.value)
        url = urlsplit(text.removeprefix(SPARSE))
        near = (url.hostname, _port(url)) == (ours.hostname, _port(ours))
        if near and (problem := _malformed(text)):
            told = f"[registries.{name}] index = {text!r} ({said.where})"
            yield fail(what, f"{told} {problem[0]}", problem[1])
        elif _same(url, ours):
            named.append(name)
    if named:
        yield ok(what, ", ".join(named))
    else:
        yield warn(what, "no [registries.NAME] has this proxy's index: search, publish and yank go past it", _WRITE)


def _intercepted(config: Merged, environ: Mapping[str, str], index: str) -> Iterator[Finding]:
    url = urlsplit(index)
    host = url.hostname or ""
    said = config.get("http", "proxy")
    proxy, where = (str(said.value), f"http.proxy in {said.where}") if said else no_proxy.proxy_of(url.scheme, environ)
    if proxy and not no_proxy.exempt(host, environ):
        detail = f"cargo asks {host} through the proxy {_bare(proxy)} ({where})"
        yield warn("cargo http.proxy", detail, f"if that one cannot reach it, add {host} to no_proxy")


def _bare(proxy: str) -> str:
    """A proxy's URL without the password that may be in it."""
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _offline(config: Merged) -> Iterator[Finding]:
    said = config.get("net", "offline")
    if said is not None and said.value in (True, "true"):
        yield warn("cargo net.offline", f"is true ({said.where}): cargo asks nobody", "remove it to have it ask")


def _protocol(config: Merged, *, replaced: bool) -> Iterator[Finding]:
    said = config.get("registries", CRATES_IO, "protocol")
    if said is not None and said.value == "git" and not replaced:
        detail = f'registries.crates-io.protocol = "git" ({said.where}): cargo clones the git index of crates.io'
        yield warn("cargo protocol", detail, "remove it")
