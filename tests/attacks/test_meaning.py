"""One URL, one meaning: whatever bytes two targets are, where they have one key they are one request upstream."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Refused
from proxy.model import Host
from proxy.rules import keys, paths, routes
from proxy.rules.endpoints import BY_NAME, Kind, Policy
from proxy.upstream.base import Ask
from proxy.upstream.http import HttpUpstream
from proxy.upstream.line import head

UPSTREAM = HttpUpstream(
    {Host.API: "https://api.example", Host.INDEX: "https://index.example:8443", Host.STATIC: "http://[::1]:81"},
    user_agent="x",
    connect_timeout=1,
    patience=1,
)
WORDS = (
    *("api", "v1", "crates", "index", "files", "readmes", "me", "users", "keywords", "versions", "something", "new"),
    *("leaf", "Leaf", "l_f", "l-f", "3", "l", "le", "af", "1.0.0", "1.0.0+a", "1.0.0-a", "download", "readme"),
    *("leaf-1.0.0.crate", "leaf-1.0.0.html", "..", ".", "", "a" * 64, "tiny", "x;y", "x:y", "x@y", "ferris", "owners"),
)
PARAMETERS = (
    "q",
    "page",
    "sort",
    "following",
    "ids[]",
    "",
    "a=b",
    "a&b",
    "a+b",
    "a;b",
    "\xe9",
    "#",
    "?",
    "/",
    "%",
    "a b",
)
# Ways in which one and the same byte can be written.
SPELT = (
    lambda char: char,
    lambda char: f"%{ord(char):02x}",
    lambda char: f"%{ord(char):02X}",
    lambda char: f"%25{ord(char):02x}",
)


@st.composite
def _written(draw: st.DrawFn, words: tuple[str, ...]) -> str:
    """A word, most of it as it is, some letters in another way."""
    word = draw(st.sampled_from(words))
    other = draw(st.dictionaries(st.integers(0, 8), st.sampled_from(SPELT), max_size=2))
    return "".join(other.get(at, SPELT[0])(char) for at, char in enumerate(word))


FIXED = st.sampled_from(
    ["/api/v1/crates/", "/api/v1/", "/index/", "/files/readmes/leaf/", "/api/v1/crates/leaf/1.0.0/"]
)
PATHS = st.builds(
    "{}{}".format,
    FIXED | st.just("/"),
    st.lists(_written(WORDS), min_size=1, max_size=4).map("/".join),
).map(lambda text: text.encode("latin-1"))
QUERIES = st.lists(
    st.builds("{}={}".format, _written(PARAMETERS), _written(PARAMETERS)) | _written(PARAMETERS), max_size=4
).map(lambda parameters: "&".join(parameters).encode("latin-1"))
BYTES = st.binary(max_size=16)
TARGETS = st.tuples(PATHS | PATHS | st.builds(lambda path, rest: path + rest, PATHS, BYTES), QUERIES | QUERIES | BYTES)


def meant(raw: tuple[bytes, bytes]) -> tuple[str, str, str, bytes] | None:
    """Key, and scheme, authority and target of what is sent upstream; None where it is refused."""
    try:
        match = routes.match("GET", paths.path(raw[0]), paths.query(raw[1]))
        read = keys.read(match, Policy())
    except Refused:
        return None
    row, key, target = match.endpoint, read.key, read.target
    if row.kind is Kind.TARBALL:  # its key is the checksum that the index gives for this version
        version = match.parameters
        target = keys.tarball_target(version["crate"], version["version"])
        key = f"{row.name} {version['crate']} {version['version']}"
    elif row.kind is Kind.PRIVATE:
        target = paths.target(match.path, match.query)
        key = f"{row.name} {target}"
    pool = UPSTREAM._straight[row.host]
    sent = head(UPSTREAM._sending(Ask(row.host, "GET", target, straight=True), 1.0, pool))
    origin = pool.way.origin
    beginning = b"GET %b HTTP/1.1\r\nHost: %b\r\n" % (target.encode(), origin.netloc)
    assert sent.startswith(beginning), "what is meant is what is sent, and where it is meant to go"
    return key, origin.scheme, origin.netloc.decode(), sent.split(b" ")[1]


@settings(max_examples=250)
@given(TARGETS, TARGETS)
def test_two_targets_with_one_key_are_one_request_upstream(
    one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> None:
    first, second = meant(one), meant(other)
    if first is not None and second is not None:
        assert (first[0] == second[0]) is (first[1:] == second[1:])


@settings(max_examples=250)
@given(TARGETS, st.data())
def test_another_spelling_of_a_target_is_the_same_or_refused(raw: tuple[bytes, bytes], data: st.DataObject) -> None:
    """Letters, digits and `-._~` mean the same escaped (RFC 3986 section 2.3), wherever they stand."""
    found = meant(raw)
    if found is None:
        return
    plain = [at for at, byte in enumerate(raw[0]) if chr(byte).isalnum() and raw[0][max(0, at - 2) : at].find(b"%") < 0]
    chosen = data.draw(st.sets(st.sampled_from(plain), max_size=3)) if plain else set()
    spelt = b"".join(b"%%%02x" % byte if at in chosen else bytes([byte]) for at, byte in enumerate(raw[0]))
    assert meant((spelt, raw[1])) == found


@settings(max_examples=100)
@given(TARGETS)
def test_no_key_holds_what_a_store_or_a_log_would_take_for_something_else(raw: tuple[bytes, bytes]) -> None:
    found = meant(raw)
    if found is not None:
        key = found[0]
        assert key.isascii() and key.isprintable() and key.partition(" ")[0] in BY_NAME
