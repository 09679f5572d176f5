"""The clients: what they ask for, and how. Each is one connection that is used again; some leave before their time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.soak.chronicle import Chronicle, Object
from tests.soak.oracle import Asked, Oracle
from tests.soak.wire import Connection, Got
from tests.upstream import Source, samples

ADMIN = "soak-admin-token"
LEAVING = 0.02
"""Of the requests, those whose client leaves."""
REMEMBERED = 60_000
"""Bytes of a body that a client keeps, to ask later whether it has changed."""
KINDS = ("tarball", "index", "json", "html")
OFTEN = (4, 4, 5, 1)


@dataclass
class Load:
    """`busy`: how many ask for a path now; whoever damages what is stored there waits until nobody does."""

    port: int
    chronicle: Chronicle
    oracle: Oracle
    dice: random.Random
    left: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    closed: set[str] = field(default_factory=set)
    going: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    pause: float = 0.02

    async def visit(self) -> None:
        """One client, for ever."""
        connection = Connection(self.port)
        known: dict[str, tuple[str, bytes]] = {}
        try:
            while True:
                await self.going.wait()
                self.under_way += 1
                before = self.oracle.statuses[0]
                try:
                    await self._one(connection, known)
                finally:
                    self.under_way -= 1
                if self.oracle.statuses[0] > before:  # nobody was there: it is of no use to ask at once
                    await asyncio.sleep(0.2)
                await asyncio.sleep(self.dice.random() * 2 * self.pause)
        finally:
            await connection.close()

    async def change(self) -> None:
        """Somebody publishes now and then, past the proxy."""
        number = len(self.chronicle.objects)
        while True:
            await asyncio.sleep(1.0 + 2.0 * self.dice.random())
            await self.going.wait()
            number += 1
            name = self.dice.choice(sorted(self.chronicle.packages))
            source = Source(name, f"2.0.{number}", keywords=("soak",), padding=self.dice.randrange(20_000))
            await asyncio.to_thread(self.chronicle.add, source, samples.OWNER)

    async def rest(self) -> None:
        """Nobody begins anything more, and what is under way comes to its end."""
        self.going.clear()
        while self.under_way:
            await asyncio.sleep(0.05)

    async def everything(self, connection: Connection, most: int) -> list[str]:
        """Ask once for each of so many objects; the paths that were not answered with 200."""
        failed = []
        things = list(self.chronicle.objects.values())
        for thing in self.dice.sample(things, min(most, len(things))):
            got = await self.ask(connection, Asked("GET", thing.path, thing), {})
            if got.status != 200:
                failed.append(f"{thing.path}: {got.status} {got.trouble} {got.body[:200]!r}")
        return failed

    async def ask(self, connection: Connection, asked: Asked, fields: dict[str, str], body: bytes = b"") -> Got:
        while asked.path in self.closed:
            await asyncio.sleep(0.01)
        self.busy[asked.path] += 1
        try:
            got = await connection.ask(asked.method, asked.path, fields, body)
        finally:
            self.busy[asked.path] -= 1
        self.oracle.judge(asked, got)
        return got

    async def undisturbed(self, thing: Object, do: Callable[[], Awaitable[None]]) -> None:
        """Do something to what is stored while nobody reads it, under whatever path."""
        paths = [each.path for each in self.chronicle.of(thing.kind) if each.target == thing.target]
        self.closed.update(paths)
        try:
            while any(self.busy[path] for path in paths):
                await asyncio.sleep(0.01)
            await do()
        finally:
            self.closed.difference_update(paths)

    async def _one(self, connection: Connection, known: dict[str, tuple[str, bytes]]) -> None:
        kind = self.dice.random()
        if kind < 0.04:
            await self._absent(connection)
        elif kind < 0.06:
            await self._private(connection)
        elif kind < 0.075:
            await self._yank(connection)
        else:
            await self._read(connection, known)

    async def _read(self, connection: Connection, known: dict[str, tuple[str, bytes]]) -> None:
        dice = self.dice
        wanted = dice.choices(KINDS, OFTEN)[0]
        thing = dice.choice(self.chronicle.of(wanted))
        fields = {"user-agent": "soak", "accept": "*/*"}
        if dice.random() < 0.5:
            fields["accept-encoding"] = "gzip"
        if dice.random() < LEAVING:
            with contextlib.suppress(OSError):
                self.left[await connection.leave("GET", thing.path, fields, dice)] += 1
            return
        method, part, have = "GET", None, known.get(thing.path)
        how = dice.random()
        if have is not None and how < 0.3:
            fields["if-none-match"] = have[0]
        elif how < 0.36:
            method = "HEAD"
        elif how < 0.42 and thing.kind == "tarball":
            part = (dice.randrange(100), 100 + dice.randrange(100_000))
            fields["range"] = f"bytes={part[0]}-{part[1] - 1}"
        asked = Asked(method, thing.path, thing, have[1] if have and "if-none-match" in fields else None, part)
        got = await self.ask(connection, asked, fields)
        plain = "content-encoding" not in got.fields and len(got.body) < REMEMBERED
        if got.status == 200 and method == "GET" and not got.trouble and plain:
            known[thing.path] = got.field("etag"), got.body

    async def _absent(self, connection: Connection) -> None:
        number = self.dice.randrange(100)
        path = self.dice.choice(
            (
                f"/index/no/ne/none-{number}",
                f"/api/v1/crates/none-{number}",
                f"/files/crates/soak-01/soak-01-9.9.{number}.crate",
            )
        )
        await self.ask(connection, Asked("GET", path, None), {"user-agent": "soak"})

    async def _private(self, connection: Connection) -> None:
        """Nobody ever sees what is another's."""
        login, token = self.dice.choice(((samples.OWNER, samples.TOKEN), (samples.OTHER, samples.OTHER_TOKEN)))
        asked = Asked("GET", "/api/v1/me", None)
        got = await connection.ask("GET", asked.path, {"user-agent": "soak", "cookie": f"cargo_session={login}"})
        if got.status == 200 and json.loads(got.body)["user"]["login"] != login:
            self.oracle.faults.append(f"{login} was told what is another's: {got.body[:200]!r}")
        self.oracle.answers["requests"] += 1

    async def _yank(self, connection: Connection) -> None:
        name = self.dice.choice(sorted(self.chronicle.packages))
        path = f"/api/v1/crates/{name}/1.0.0/"
        method, path = self.dice.choice((("DELETE", path + "yank"), ("PUT", path + "unyank")))
        fields = {"user-agent": "soak", "authorization": samples.TOKEN}
        await self.ask(connection, Asked(method, path, None), fields)
