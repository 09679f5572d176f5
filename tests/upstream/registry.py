"""What the small crates.io knows: crates, their owners, users and tokens, and every way to change them.

No HTTP here. Methods may be called from any thread; a test uses the same ones as the handlers.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from tests.upstream import crates
from tests.upstream.packages import NotKnown, Package, Release, User, folded, index_line

P = ParamSpec("P")
T = TypeVar("T")


class NotAllowed(Exception):
    """A change that the rules exclude; the text is crates.io's own."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


def locked(method: Callable[Concatenate[Registry, P], T]) -> Callable[Concatenate[Registry, P], T]:
    @functools.wraps(method)
    def under_lock(self: Registry, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return under_lock


class Registry:
    """`clock` dates every change; `tokens` and `sessions` (the value of the session cookie) name their user."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.packages: dict[str, Package] = {}
        self.users: dict[str, User] = {}
        self.tokens: dict[str, str] = {}
        self.sessions: dict[str, str] = {}
        self.throttled: dict[str, float] = {}
        self._made = 0

    @locked
    def user(self, login: str, *, token: str = "", session: str = "") -> User:
        """A user, made if there is none; `token` and `session` are added to the user's."""
        if login not in self.users:
            self.users[login] = User(len(self.users) + 1, login, login.replace("-", " ").title())
        if token:
            self.tokens[token] = login
        if session:
            self.sessions[session] = login
        return self.users[login]

    @locked
    def package(self, name: str) -> Package:
        """The crate of that name, in any spelling."""
        try:
            return self.packages[folded(name)]
        except KeyError:
            raise NotKnown(f"crate `{name}` does not exist") from None

    def release(self, name: str, num: str) -> Release:
        return self.package(name).release(num)

    @locked
    def index_file(self, name: str) -> bytes:
        """The index file of a crate, whose name must be spelt right but for case."""
        package = self.package(name)
        if package.name.lower() != name:
            raise NotKnown(name)
        lines = [json.dumps(release.line, separators=(",", ":")) for release in package.releases]
        return "".join(line + "\n" for line in lines).encode()

    @locked
    def add(self, source: crates.Source, owner: str = "", *, at: float | None = None) -> Release:
        """Publishes a crate made from source, by its first owner where none is named."""
        if not owner:
            known = self.packages.get(folded(source.name))
            owner = known.owners[0] if known else next(iter(self.users), "ferris")
        self.user(owner)
        return self.publish(owner, crates.metadata(source), crates.tarball(source), at=at)

    @locked
    def publish(self, login: str, metadata: dict[str, Any], tarball: bytes, *, at: float | None = None) -> Release:
        name, num, now = metadata["name"], metadata["vers"], self.clock() if at is None else at
        package = self.packages.get(folded(name))
        if package is None:
            package = Package(self._next(), name, now, now, now, [login])
        if login not in package.owners:
            raise NotAllowed(
                "this crate exists but you don't seem to be an owner. "
                "If you believe this is a mistake, perhaps you need to accept an invitation to be an owner "
                "before publishing.",
                403,
            )
        if package.name != name:
            raise NotAllowed(f"crate was previously named `{package.name}`")
        if any(release.num.partition("+")[0] == num.partition("+")[0] for release in package.releases):
            raise NotAllowed(f"crate version `{num}` is already uploaded")
        line = index_line(metadata, hashlib.sha256(tarball).hexdigest(), now)
        release = Release(self._next(), line, metadata, tarball, now, now, login)
        package.releases.append(release)
        package.updated_at = package.index_at = now
        self.packages[folded(name)] = package
        return release

    def _next(self) -> int:
        """Numbers of crates and versions are never used again."""
        self._made += 1
        return self._made

    @locked
    def yank(self, name: str, num: str, *, yanked: bool = True, message: str | None = None) -> None:
        package = self.package(name)
        release = package.release(num)
        release.line["yanked"] = yanked
        release.yank_message = message if yanked else None
        release.updated_at = package.updated_at = package.index_at = self.clock()

    @locked
    def delete(self, name: str) -> None:
        """The name is free again: it may be published with other bytes."""
        del self.packages[folded(self.package(name).name)]

    @locked
    def add_owner(self, name: str, login: str) -> str:
        """A team owns at once, a user is invited (see `accept`)."""
        package = self.package(name)
        if login in package.owners:
            raise NotAllowed(f"`{login}` is already an owner")
        if ":" in login:
            package.owners.append(login)
            return f"team {login} has been added as an owner of crate {package.name}"
        if login not in self.users:
            raise NotAllowed(f"could not find user with login `{login}`")
        if login in package.invited:
            return f"user {login} already has a pending invitation to be an owner of crate {package.name}"
        package.invited.append(login)
        return f"user {login} has been invited to be an owner of crate {package.name}"

    @locked
    def accept(self, name: str, login: str) -> None:
        """`login` takes the invitation."""
        package = self.package(name)
        package.invited.remove(login)
        package.owners.append(login)

    @locked
    def remove_owner(self, name: str, login: str) -> None:
        package = self.package(name)
        if login not in package.owners:
            raise NotAllowed(f"could not find owner with login `{login}`")
        if not [owner for owner in package.owners if ":" not in owner and owner != login]:
            raise NotAllowed(
                "cannot remove all individual owners of a crate. "
                "Team member don't have permission to modify owners, so at least one individual owner is required."
            )
        package.owners.remove(login)
