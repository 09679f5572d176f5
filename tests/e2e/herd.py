"""Many clients at once, as light as they can be: a socket each, one request, and cargo's patience with what breaks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ATTEMPTS = 5
"""Cargo itself makes four."""
AT_ONCE = 100
"""Connections made at a time: the queue of a listening socket is short."""


@dataclass(frozen=True, slots=True)
class Got:
    """`attempts`: how many it took."""

    status: int
    body: bytes
    cache_status: str
    attempts: int


async def herd(urls: Sequence[str], path: str, count: int, *, asked: Callable[[], object] = lambda: None) -> list[Got]:
    """GET `path` by `count` clients, spread over `urls`. `asked` is called when all have sent their request."""
    left = count
    doors = asyncio.Semaphore(AT_ONCE)

    def sent() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            asked()

    return await asyncio.gather(*(_client(urls[number % len(urls)], path, doors, sent) for number in range(count)))


async def _client(url: str, path: str, doors: asyncio.Semaphore, sent: Callable[[], None]) -> Got:
    """One that is broken off tries again; an error that it is answered with is an answer."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await _get(url, path, doors, sent if attempt == 1 else lambda: None, attempt)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1 * attempt)
    raise AssertionError(f"{url}{path} was broken off {ATTEMPTS} times")


async def _get(url: str, path: str, doors: asyncio.Semaphore, sent: Callable[[], None], attempt: int) -> Got:
    address = urlsplit(url)
    async with doors:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        sent()
    try:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(fields["content-length"]))
        return Got(int(start.split()[1]), body, fields.get("cache-status", ""), attempt)
    finally:
        writer.close()


def connected(pids: Iterable[int], url: str) -> set[int]:
    """Which of these processes have a connection to `url` open."""
    port = f":{urlsplit(url).port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    theirs = {f"socket:[{line[9]}]" for line in lines if line[2].endswith(port) and line[3] == "01"}
    return {pid for pid in pids if theirs & _open_files(pid)}


def _open_files(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(descriptor))
    return found
