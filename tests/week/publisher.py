"""The office publishes: `cargo publish`, with the polling that follows it, and now and then something private."""

from __future__ import annotations

import asyncio
import json
import random
import struct

from tests.upstream import index
from tests.week.clients import CARGO, Visitor, plain
from tests.week.population import SESSION, TOKEN, metadata

POLLS = 60
"""Times, a second apart, that cargo looks whether its version has come into the index."""


async def publish(visitor: Visitor, name: str, version: str, dice: random.Random) -> None:
    """A new version of one of the office's own crates."""
    if not (config := await visitor.config()):
        return
    text = json.dumps(metadata(name, version)).encode()
    tarball = random.Random(f"{name} {version}").randbytes(dice.randint(2_000, 30_000))
    body = struct.pack("<I", len(text)) + text + struct.pack("<I", len(tarball)) + tarball
    fields = {"user-agent": CARGO["user-agent"], "authorization": TOKEN, "accept": "application/json"}
    put = await visitor.ask("write", f"{config['api']}/api/v1/crates/new", fields, "PUT", body)
    if put.status != 200:
        return
    asked = asyncio.get_running_loop().time()
    for _ in range(POLLS):
        got = await visitor.ask("index", visitor.way.index + index.path(name).lstrip("/"), CARGO)
        if got.status == 200 and f'"{version}"'.encode() in plain(got):
            visitor.witness.published_within = max(
                visitor.witness.published_within, asyncio.get_running_loop().time() - asked
            )
            return
        await asyncio.sleep(1)
    visitor.witness.untrue.append(f"{name} {version} was published and did not appear within {POLLS} s")


async def look(visitor: Visitor, name: str) -> None:
    """What only the one who is logged in may see, and then the owners."""
    if config := await visitor.config():
        base = f"{config['api']}/api/v1/crates/{name}"
        browser = {"user-agent": "Mozilla/5.0 (X11; Linux) Firefox/150", "cookie": f"cargo_session={SESSION}"}
        await visitor.ask("private", f"{base}/following", browser)
        await visitor.careful("json", f"{base}/owners")
