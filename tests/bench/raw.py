"""One request as bytes, one answer as bytes: what is asked in a run is first asked by hand, and looked at."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Mapping
from dataclasses import dataclass

Address = tuple[str, int]
PATIENCE = 30.0
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answered:
    """`whole` is every byte as it came; `body` is without its coding."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bytes


def get(target: str, host: str, *fields: str) -> bytes:
    """A GET with these further fields, each as `name: value`."""
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def asked(address: Address, request: bytes) -> Answered:
    """Send one request on a new connection. Raises OSError where no whole answer comes."""
    with socket.create_connection(address, PATIENCE) as connection:
        return said(connection, request)


def said(connection: socket.socket, request: bytes) -> Answered:
    """Send one request on a connection that goes on. Raises OSError where no whole answer comes."""
    connection.sendall(request)
    received = b""
    while _END not in received:
        received += _more(connection)
    head, _, body = received.partition(_END)
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    status = int(lines[0].split(" ")[1])
    length = 0 if status == 304 else int(headers["content-length"])
    pieces, left = [body], length - len(body)
    while left > 0:
        pieces.append(_more(connection))
        left -= len(pieces[-1])
    body = b"".join(pieces)
    plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    return Answered(status, headers, plain, head + _END + body)


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ConnectionError("the connection ended within an answer")
    return data
