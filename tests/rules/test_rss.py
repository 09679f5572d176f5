"""The feed: what is understood of it, what is refused, and what counts as new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Faulty
from proxy.rules import rss
from proxy.rules.rss import Item, News

DATE = "Sat, 22 Jun 2024 15:57:19 +0000"


def item(name: str, version: str = "1.0.0", published: str = DATE, description: str = "") -> str:
    return (
        f"<item><title>New crate version published: {name} v{version}</title>"
        f"<link>https://crates.io/crates/{name}/{version}</link>{description}"
        f"<guid>https://crates.io/crates/{name}/{version}</guid><pubDate>{published}</pubDate>"
        f"<crates:name>{name}</crates:name><crates:version>{version}</crates:version></item>"
    )


def feed(*items: str, start: str = '<?xml version="1.0" encoding="utf-8"?>\n') -> bytes:
    return (
        f'{start}<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom" xmlns:crates="https://crates.io/">'
        f"<channel><title>crates.io: recent updates</title><pubDate>of no item</pubDate>"
        f'<atom:link href="https://static.crates.io/rss/updates.xml" rel="self"/>{"".join(items)}</channel></rss>'
    ).encode()


HOSTILE = "<description><![CDATA[a <!DOCTYPE html> and <item><crates:name>evil</crates:name></item> ]]></description>"

UNDERSTOOD: dict[str, tuple[bytes, list[Item]]] = {
    "as crates.io writes it": (
        feed(item("serde"), item("Foo_Bar", "2.0.0-beta.1+b")),
        [Item("serde", "1.0.0", DATE), Item("Foo_Bar", "2.0.0-beta.1+b", DATE)],
    ),
    "laid out in lines": (
        feed(item("serde").replace("><", ">\n    <").replace("<crates:name>", "<crates:name>\n ")),
        [Item("serde", "1.0.0", DATE)],
    ),
    "a description says what it likes": (
        feed(item("serde", description=HOSTILE)),
        [Item("serde", "1.0.0", DATE)],
    ),
    "another prefix for the same namespace": (
        feed(item("serde")).replace(b"crates:", b"c:").replace(b"xmlns:crates", b"xmlns:c"),
        [Item("serde", "1.0.0", DATE)],
    ),
    "another coding": (
        feed(item("serde"), start="").decode().encode("utf-16"),
        [Item("serde", "1.0.0", DATE)],
    ),
    "nothing was ever published": (feed(), []),
    "no name, and no version that can be": (
        feed(item("../../etc"), item(""), item("a" * 65), item("a", "1"), item("a", "1.0." + "1" * 10_000), "<item/>"),
        [],
    ),
    "the words of another namespace": (
        feed(item("serde")).replace(b'https://crates.io/"', b'https://example.org/"'),
        [],
    ),
    "names outside of items": (feed("<crates:name>serde</crates:name><crates:version>1.0.0</crates:version>"), []),
}

BOMB = """<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>"""
OF_A_FILE = '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/passwd">]>'

REFUSED: dict[str, tuple[bytes, str]] = {
    "a bomb of entities": (feed(item("&c;"), start=BOMB), "document type"),
    "a bomb in another coding": (feed(item("&c;"), start=BOMB).decode().encode("utf-16"), "document type"),
    "a file of this machine": (feed(item("&a;"), start=OF_A_FILE), "document type"),
    "a document type elsewhere": (feed(item("a"), start='<!DOCTYPE rss SYSTEM "http://example.org/rss">'), "document"),
    "an entity that nobody declared": (feed(item("&c;")), "no XML"),
    "nothing": (b"", "no XML"),
    "half of it": (feed(item("serde"))[:-40], "no XML"),
    "two of it": (feed() + feed(), "no XML"),
    "a page": (b"<html><item></item></html>", "no RSS"),
    "S3's error page": (b"<Error><Code>AccessDenied</Code></Error>", "no RSS"),
    "a coding that nobody has": (feed(start='<?xml version="1.0" encoding="klingon"?>'), "no XML"),
    "a coding that takes more than a byte": (feed(start='<?xml version="1.0" encoding="gb2312"?>'), "no XML"),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_what_is_understood(name: str) -> None:
    body, expected = UNDERSTOOD[name]
    assert list(rss.items(body)) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    body, why = REFUSED[name]
    with pytest.raises(Faulty, match=why):
        rss.items(body)


@given(st.binary(max_size=300))
def test_other_bytes_are_no_feed(body: bytes) -> None:
    with pytest.raises(Faulty):
        rss.items(body)


A, B, C = Item("a", "1.0.0", "1"), Item("B_b", "1.0.0", "2"), Item("b-b", "1.0.1", "3")
A_AGAIN = Item("a", "1.0.0", "9")

NEWS: list[tuple[list[Item], list[Item], News]] = [
    ([A, B], [], News(("a", "b-b"), gap=False)),  # the first time
    ([A, B], [A, B], News((), gap=False)),
    ([C, A, B], [A, B], News(("b-b",), gap=False)),
    ([C, B], [A, B], News(("b-b",), gap=False)),  # A was deleted, or fell out
    ([C, B], [], News(("b-b",), gap=False)),
    ([C], [A, B], News(("b-b",), gap=True)),
    ([], [A], News((), gap=True)),
    ([], [], News((), gap=False)),
    ([A_AGAIN, B], [A, B], News(("a",), gap=False)),  # deleted, and published with other bytes
    ([B, A], [A], News(("b-b",), gap=False)),  # older by its date, and later in the feed
]


@pytest.mark.parametrize("found, seen, expected", NEWS)
def test_what_is_new(found: list[Item], seen: list[Item], expected: News) -> None:
    assert rss.news(found, [item.identity for item in seen]) == expected


ITEMS = st.lists(st.builds(Item, st.sampled_from("abc"), st.sampled_from(["1.0.0", "2.0.0"]), st.sampled_from("12")))


@given(ITEMS, ITEMS)
def test_what_was_seen_is_no_news_and_all_else_is(found: list[Item], seen: list[Item]) -> None:
    identities = {item.identity for item in seen}
    news = rss.news(found, identities)
    assert set(news.crates) == {item.name for item in found if item.identity not in identities}
    assert rss.news(found, [item.identity for item in found]).crates == ()
