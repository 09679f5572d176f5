"""The crates of a run: thousands in the small crates.io, made under a seed, and what happens to them meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.upstream import Registry
from tests.upstream.packages import NotKnown
from tests.upstream.registry import NotAllowed
from tests.week.plan import DAY, Plan

OWNER, TOKEN, SESSION = "office", "cioTokenOfTheOffice0123456789abc", "session-of-the-office"
"""Who owns all that the office publishes."""
OURS = 8
"""So many of the common crates are the office's own."""
_SYLLABLES = ("ser", "to", "ki", "ru", "ba", "lo", "ne", "hy", "per", "an", "qu", "ick", "mi", "so", "tra", "cing")


def names(plan: Plan) -> list[str]:
    """All of them; the common ones come first, and of those the office's own."""
    made: dict[str, None] = {}
    dice = random.Random(f"{plan.seed} names")
    while len(made) < plan.crates:
        made["".join(dice.choices(_SYLLABLES, k=dice.randint(2, 4))) + dice.choice(("", "-rs", "_core", "-sys"))] = None
    # crates.io takes no two that differ in `-` and `_` only; a number keeps them apart.
    return [f"{name}{number}" for number, name in enumerate(made)]


def registry(plan: Plan, clock: Callable[[], float]) -> Registry:
    """The crates as they were before the run began."""
    dice = random.Random(f"{plan.seed} registry")
    made = Registry(clock)
    made.user(OWNER, token=TOKEN, session=SESSION)
    made.user("somebody")
    now = clock()
    for number, name in enumerate(names(plan)):
        owner = OWNER if number < OURS else "somebody"
        size = dice.randint(2_000, 30_000) if number < plan.common else 200
        versions = min(40, 1 + int(dice.expovariate(1 / (8 if number < plan.common else 3))))
        for minor, ago in enumerate(sorted((dice.uniform(1, 900) for _ in range(versions)), reverse=True)):
            release(made, name, f"1.{minor}.0", size, owner, at=now - ago * DAY)
    return made


def release(made: Registry, name: str, version: str, size: int, owner: str, at: float | None = None) -> None:
    """Publish a version whose tarball is `size` bytes of noise; nobody unpacks it here."""
    tarball = random.Random(f"{name} {version}").randbytes(size)
    made.publish(owner, metadata(name, version), tarball, at=at)


def metadata(name: str, version: str) -> dict[str, Any]:
    dep = {"name": "serde", "version_req": "^1", "features": ["derive"], "optional": False, "default_features": True}
    return {
        "name": name,
        "vers": version,
        "deps": [{**dep, "target": None, "kind": "normal", "registry": None, "explicit_name_in_toml": None}],
        "features": {"default": ["std"], "std": []},
        "description": f"What {name} is for",
        "documentation": None,
        "homepage": None,
        "keywords": [],
        "categories": [],
        "license": "MIT OR Apache-2.0",
        "repository": f"https://example.com/{name}",
        "links": None,
        "rust_version": None,
    }


def changes(plan: Plan) -> Iterator[tuple[float, Callable[[Registry], None]]]:
    """What other people do to their crates: when after the beginning, and what. One in twenty is a yank."""
    dice = random.Random(f"{plan.seed} changes")
    every = names(plan)[OURS:]
    common = every[: plan.common - OURS]
    at = 0.0
    while (at := at + dice.expovariate(plan.changes_a_day / DAY)) < plan.seconds:
        name = dice.choice(common if dice.random() < 0.3 else every)
        yield at, _yanked(name) if dice.random() < 0.05 else _published(name, dice.randint(2_000, 30_000))


def _published(name: str, size: int) -> Callable[[Registry], None]:
    return lambda made: release(made, name, f"1.{len(made.package(name).releases)}.0", size, "somebody")


def _yanked(name: str) -> Callable[[Registry], None]:
    def change(made: Registry) -> None:
        package = made.package(name)
        if len(package.releases) > 1:
            made.yank(name, package.releases[-2].num)

    return change


def versions(made: Registry, name: str) -> list[float]:
    """When each version of a crate was published, oldest first; nothing for a name that is none."""
    try:
        return [one.created_at for one in made.package(name).releases]
    except (NotKnown, NotAllowed):
        return []
