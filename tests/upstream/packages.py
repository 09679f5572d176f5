"""Users, crates and their versions as values of the registry; names, dates and index lines made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.upstream import versions


class NotKnown(LookupError):
    """No such crate, version or user; the text is crates.io's own."""


@dataclass(frozen=True, slots=True)
class User:
    id: int
    login: str
    name: str


@dataclass(slots=True)
class Release:
    """One version of a crate. `line` is its line of the index file."""

    id: int
    line: dict[str, Any]
    metadata: dict[str, Any]
    tarball: bytes
    created_at: float
    updated_at: float
    published_by: str
    yank_message: str | None = None

    @property
    def num(self) -> str:
        return str(self.line["vers"])

    @property
    def yanked(self) -> bool:
        return bool(self.line["yanked"])


@dataclass(slots=True)
class Package:
    """A crate; `owners` are logins, those with a colon are teams."""

    id: int
    name: str
    created_at: float
    updated_at: float
    index_at: float
    owners: list[str]
    releases: list[Release] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    followers: set[str] = field(default_factory=set)
    trustpub_only: bool = False

    def release(self, num: str) -> Release:
        for release in self.releases:
            if release.num == num:
                return release
        raise NotKnown(f"crate `{self.name}` does not have a version `{num}`")

    def newest_first(self) -> list[Release]:
        return sorted(self.releases, key=lambda release: release.id, reverse=True)

    def highest(self, *, stable: bool = False) -> Release | None:
        """The highest version that is not yanked."""
        fit = [one for one in self.releases if not one.yanked and (versions.stable(one.num) or not stable)]
        return max(fit, key=lambda one: versions.rank(one.num), default=None)

    @property
    def latest(self) -> Release:
        """The default version: the highest stable one, else whatever there is."""
        best = self.highest(stable=True) or self.highest()
        return best or max(self.releases, key=lambda one: versions.rank(one.num))


def folded(name: str) -> str:
    """Names are equal regardless of case, `-` and `_`."""
    return name.lower().replace("_", "-")


def timestamp(at: float, *, micro: bool = True) -> str:
    """crates.io's form in the API; in the index without fractions."""
    moment = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds" if micro else "seconds") + "Z"


def index_line(metadata: dict[str, Any], checksum: str, at: float) -> dict[str, Any]:
    """The line of the index file. Features that older cargos can't read go to `features2` (`v` 2)."""
    deps = [
        {
            "name": dep["explicit_name_in_toml"] or dep["name"],
            "req": dep["version_req"],
            **{key: dep[key] for key in ("features", "optional", "default_features", "target", "kind")},
            **({"package": dep["name"]} if dep.get("explicit_name_in_toml") else {}),
        }
        for dep in metadata["deps"]
    ]
    new = {
        name: wants
        for name, wants in metadata["features"].items()
        if any(want.startswith("dep:") or "?/" in want for want in wants)
    }
    line: dict[str, Any] = {
        "name": metadata["name"],
        "vers": metadata["vers"],
        "deps": deps,
        "cksum": checksum,
    }
    line["features"] = {name: wants for name, wants in metadata["features"].items() if name not in new}
    line |= {"features2": new} if new else {}
    line |= {"yanked": False, "links": metadata.get("links")}
    line |= {"rust_version": metadata["rust_version"]} if metadata.get("rust_version") else {}
    return line | {"pubtime": timestamp(at, micro=False), "v": 2 if new else 1}
