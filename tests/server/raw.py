"""HTTP/1.1 written and read by hand, and an app that answers what it was asked."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
from collections.abc import Callable
from typing import Any

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"

Message = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[Message], Any]


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with what it sees of the request, as JSON. Some paths do something else first."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await asyncio.wait_for(receive(), 5))["type"] != "http.disconnect":
            pass
        for _ in range(20):  # A server that did not notice would write, and its event loop would complain.
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        return
    if scope["path"].startswith("/hold/"):
        with open(scope["path"].removeprefix("/hold"), "w"):  # A file that tells the test that we are here.
            pass
        while os.path.exists(scope["path"].removeprefix("/hold")):
            await asyncio.sleep(0.01)
    body = b""
    more = scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    if scope["path"] == "/patient":  # Reads on: nothing but a disconnect may come after the body.
        await asyncio.sleep(0)
    seen = {
        "method": scope["method"],
        "target": scope["raw_path"].decode(),
        "version": scope["http_version"],
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
        "client": scope["client"] and scope["client"][0],
        "pid": os.getpid(),
    }
    answer = json.dumps(seen).encode()
    length = (b"content-length", str(len(answer)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": answer})


def answers(wire: io.BufferedIOBase) -> list[tuple[int, dict[str, str], Any]]:
    """Every answer up to the end of the connection; interim ones (1xx) are answers too."""
    found = []
    while answer := one_answer(wire):
        found.append(answer)
    return found


def one_answer(wire: io.BufferedIOBase) -> tuple[int, dict[str, str], Any] | None:
    line = wire.readline()
    if not line:
        return None
    version, status, _ = line.split(b" ", 2)
    assert version == b"HTTP/1.1", line
    headers = {}
    while (line := wire.readline()) != b"\r\n":
        name, value = line.decode().rstrip("\r\n").split(": ", 1)
        headers[name] = value
    body = wire.read(int(headers.get("content-length", "0")))
    return int(status), headers, json.loads(body) if body else None


def talk(address: Any, *segments: bytes, family: int = socket.AF_INET) -> list[tuple[int, dict[str, str], Any]]:
    """Send, end the connection with a request that closes it, and read all answers."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(address)
        for segment in segments:
            client.sendall(segment)
        with client.makefile("rb") as wire:
            return answers(wire)
