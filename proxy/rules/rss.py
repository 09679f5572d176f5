"""crates.io's feed of new versions: read without trust, and compared with what was seen of it before.

The feed is RSS 2.0, newest first: all versions of the last hour, and at least the newest hundred. It tells of
publishes only, not of yanks. expat is used as it is, not through `xml.etree`: what makes XML dangerous, entities that
grow or that name files, can only be declared in a document type, and that is refused where it begins, in every
encoding. What is left costs memory in proportion to its size, which the caller bounds; no tree is built.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from xml.parsers import expat

from proxy.errors import Faulty
from proxy.rules import names

_CRATES = "https://crates.io/"  # the namespace of crates.io's own elements
_FIELDS = {f"{_CRATES} name": "name", f"{_CRATES} version": "version", "pubDate": "published"}
_LONGEST = 512  # characters of a field that are read; no valid one is longer but a version beyond all measure


@dataclass(frozen=True, slots=True)
class Item:
    """A version that was published. `published`: when, in the feed's own words."""

    name: str
    version: str
    published: str

    @property
    def identity(self) -> str:
        """What no other item has: a version that was deleted may be published anew, at another time."""
        return f"{self.name} {self.version} {self.published}"


@dataclass(frozen=True, slots=True)
class News:
    """`crates`: folded names of what was published since. `gap`: something else may have been, too."""

    crates: tuple[str, ...]
    gap: bool


def items(body: bytes) -> tuple[Item, ...]:
    """The items of a feed, in its order, without those that name no possible version of a crate.

    Raises `Faulty` for what is no RSS, and for a document type, whatever it says.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two are about encodings
        raise Faulty(f"the feed of new versions is no XML: {error}") from None
    return tuple(reader.items)


def news(found: Collection[Item], seen: Collection[str]) -> News:
    """What a feed has that has not been `seen` (identities of a feed before, none for the first time).

    As long as it still has one of those, it has all that came after that one, and most of what was merely late.
    """
    known = frozenset(seen)
    crates = dict.fromkeys(names.folded(item.name) for item in found if item.identity not in known)
    return News(tuple(crates), gap=bool(known) and all(item.identity not in known for item in found))


def _refuse(*_: object) -> None:
    raise Faulty("the feed of new versions has a document type, which no feed of crates.io has")


class _Reader:
    """What expat tells, put together."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._root = ""
        self._fields: dict[str, str] | None = None  # of the item that is open
        self._open = ""  # the field that is

    def start(self, name: str, _: object) -> None:
        self._root = self._root or name
        if self._root != "rss":
            raise Faulty("the feed of new versions is no RSS")
        if name == "item":
            self._fields = {}
        self._open = _FIELDS.get(name, "")

    def text(self, data: str) -> None:
        if self._fields is not None and self._open:
            self._fields[self._open] = (self._fields.get(self._open, "") + data)[:_LONGEST]

    def end(self, name: str) -> None:
        self._open = ""
        if name != "item" or self._fields is None:
            return
        fields, self._fields = self._fields, None
        item = Item(*(fields.get(field, "").strip() for field in _FIELDS.values()))
        if names.is_name(item.name) and names.is_version(item.version):
            self.items.append(item)
