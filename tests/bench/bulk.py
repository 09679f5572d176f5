"""Load for large files, and a crowd: clients of which the kernel does nearly all the work."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from tests.bench.load import Failed, Loaded
from tests.bench.raw import PATIENCE, Address

_END = b"\r\n\r\n"
_PIECE = 1 << 20


@dataclass(slots=True)
class _Client:
    """One connection and how much of the answer is still to come; -1: its head. `last`: the server ends it then."""

    socket: socket.socket
    left: int = 0
    asked: float = 0.0
    last: bool = False


def bulk(address: Address, requests: Sequence[bytes], connections: int, seconds: float) -> Loaded:
    """Ask these requests in turn for so long, throwing the bodies away. Raises `Failed` as `load.wrk` does."""
    queue, scratch = cycle(requests), bytearray(_PIECE)
    count = size = 0
    latencies: list[float] = []
    clients = {each.socket.fileno(): each for each in _connected(address, connections)}
    poll = select.epoll()
    spent, begun = time.process_time(), time.monotonic()
    try:
        for number, client in clients.items():
            _ask(client, next(queue))
            poll.register(number, select.EPOLLIN)
        while time.monotonic() < begun + seconds:
            ready = poll.poll(PATIENCE)
            if not ready:
                raise Failed("the server fell silent")
            for number, _ in ready:
                client = clients[number]
                size += _received(client, scratch)
                if client.left == 0:
                    count += 1
                    latencies.append(time.monotonic() - client.asked)
                    if client.last:
                        client.socket.close()
                        (again,) = _connected(address, 1)
                        client = clients[again.socket.fileno()] = again
                        poll.register(again.socket, select.EPOLLIN)
                    _ask(client, next(queue))
    finally:
        poll.close()
        for client in clients.values():
            client.socket.close()
    took = time.monotonic() - begun
    p99 = sorted(latencies)[len(latencies) * 99 // 100] if latencies else took
    return Loaded(count, took, size, (time.process_time() - spent) / took, p99)


def crowd(address: Address, request: bytes, clients: int) -> Loaded:
    """So many clients connect, then ask all at once; it lasts until the last has its answer."""
    scratch = bytearray(_PIECE)
    waiting = {each.socket.fileno(): each for each in _connected(address, clients)}
    every = list(waiting.values())
    poll = select.epoll()
    size = 0
    spent, begun = time.process_time(), time.monotonic()
    try:
        for client in every:
            _ask(client, request)
            poll.register(client.socket, select.EPOLLIN)
        while waiting:
            ready = poll.poll(PATIENCE)
            if not ready:
                raise Failed(f"{len(waiting)} of {clients} clients got no answer")
            for number, _ in ready:
                size += _received(waiting[number], scratch)
                if waiting[number].left == 0:
                    poll.unregister(number)
                    del waiting[number]
        took = time.monotonic() - begun
    finally:
        poll.close()
        for client in every:
            client.socket.close()
    return Loaded(clients, took, size, (time.process_time() - spent) / took, took)


def _connected(address: Address, count: int) -> Iterator[_Client]:
    for _ in range(count):
        yield _Client(socket.create_connection(address, PATIENCE))


def _ask(client: _Client, request: bytes) -> None:
    client.socket.sendall(request)
    client.left, client.asked = -1, time.monotonic()


def _received(client: _Client, scratch: bytearray) -> int:
    """Take what there is of the answer; how many bytes that was."""
    size = 0
    if client.left < 0:
        head = client.socket.recv(1 << 14, socket.MSG_PEEK)
        end = head.find(_END)
        if end < 0 and head:
            return 0
        size = end + len(_END)
        fields = head[:end].lower().split(b"\r\n")
        length = next((field for field in fields if field.startswith(b"content-length:")), b"")
        if b" 200 " not in fields[0] or not length:
            raise Failed(f"the answer was {head[:end] or 'the end of the connection'!r}")
        client.socket.recv(size)
        client.last = b"connection: close" in fields
        client.left = int(length.partition(b":")[2])
    while client.left:
        try:
            # With MSG_TRUNC the kernel drops what it would have copied (tcp(7)).
            got = client.socket.recv_into(scratch, min(_PIECE, client.left), socket.MSG_TRUNC | socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        if not got:
            raise Failed("the connection ended within an answer")
        client.left -= got
        size += got
    return size
