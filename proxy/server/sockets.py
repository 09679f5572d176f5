"""Binds the listening sockets, before anything else is started. Knows addresses; knows neither HTTP nor asyncio.

What is bound here does not listen yet: who accepts listens, when it is ready to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from urllib.parse import quote

from proxy.errors import Error, SettingsError

# One group of sockets for each worker: a name such as localhost may stand for two addresses.
Groups = list[list[socket.socket]]

# A free port of the first address may be taken on the second one.
ATTEMPTS = 10


def tcp(host: str, port: int, *, workers: int = 1) -> Groups:
    """Port 0 chooses a free one, the same for all workers. Several workers get a socket each (SO_REUSEPORT), so
    that the kernel spreads the connections over them. Raises Error where the address cannot be had."""
    addresses = _resolved(host, port)
    for attempt in range(ATTEMPTS):
        groups: Groups = []
        try:
            if workers > 1:
                # Sockets that share a port do not notice a stranger that shares it too; this one does.
                with _bound(addresses[0], port) as probe:
                    chosen = probe.getsockname()[1]
            else:
                chosen = port
            for _ in range(workers):
                groups.append([])
                for address in addresses:
                    groups[-1].append(_bound(address, chosen, several=len(addresses) > 1, shared=workers > 1))
                    chosen = groups[-1][-1].getsockname()[1]
            return groups
        except OSError as error:
            close(groups)
            if port == 0 and error.errno == errno.EADDRINUSE and attempt < ATTEMPTS - 1:
                continue
            raise Error(_refusal(host, port, error)) from error
    raise AssertionError("unreachable")


def unix(path: str, *, workers: int = 1, mode: int = 0o660) -> Groups:
    """All workers accept from one socket. A file that a dead server left is removed; where somebody answers, or
    where the path is no socket, Error is raised."""
    _make_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, mode)  # Nobody can connect before it listens.
    except OSError as error:
        sock.close()
        raise Error(f"server.socket = {path!r} cannot be used: {_reason(error)}") from error
    return [[sock], *([sock.dup()] for _ in range(workers - 1))]


def url(sock: socket.socket, *, tls: bool = False) -> str:
    """How people write where a socket listens."""
    scheme = "https" if tls else "http"
    if sock.family == socket.AF_UNIX:
        return f"{scheme}+unix://{quote(sock.getsockname(), safe='')}"
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"


def close(groups: Sequence[Sequence[socket.socket]]) -> None:
    for group in groups:
        for sock in group:
            sock.close()


def remove(path: str) -> None:
    """The file of a Unix socket, after its server has ended."""
    with contextlib.suppress(OSError):
        os.unlink(path)


_Address = tuple[socket.AddressFamily, str, int]  # family, numeric host, scope of an IPv6 address
_NOTSENT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
WAITING = 256 * 1024
"""Bytes of an answer that the kernel takes before they are on their way: else it takes megabytes for each client that
does not read, and they count as this process's. What is on its way is not limited."""


def _resolved(host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError, OverflowError) as error:
        raise SettingsError([f"server.host = {host!r}: no such address ({_reason(error)})"]) from error
    addresses: list[_Address] = []
    for family, _, _, _, to in found:
        address = (family, str(to[0]), int(to[3]) if len(to) == 4 else 0)
        if address not in addresses:
            addresses.append(address)
    # In a container localhost is often also ::1, without an IPv6 to be had.
    return [address for address in addresses if len(addresses) > 1 and _available(address)] or addresses


def _available(address: _Address) -> bool:
    try:
        _bound(address, 0, several=True).close()
    except OSError:
        return False
    return True


def _bound(address: _Address, port: int, *, several: bool = False, shared: bool = False) -> socket.socket:
    family, host, scope = address
    # The event loops set TCP_NODELAY only where the protocol is told; without, each keep-alive answer waits 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if _NOTSENT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT, WAITING)  # its connections inherit it
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, several)  # "::" alone takes IPv4 too.
        sock.bind((host, port, 0, scope) if family == socket.AF_INET6 else (host, port))
        return sock
    except BaseException:
        sock.close()
        raise


def _make_way(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise SettingsError([f"server.socket = {path!r}: there is something else than a socket"])
    except OSError:
        return  # Nothing there, or nothing that may be looked at: bind says it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            remove(path)
        except OSError as error:
            raise Error(f"server.socket = {path!r} cannot be used: {_reason(error)}") from error
        else:
            raise Error(f"server.socket = {path!r} is in use: another server answers there")


def _refusal(host: str, port: int, error: OSError) -> str:
    where = f"server.host = {host!r}, server.port = {port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: the address is in use; stop what listens there, or set another server.port"
        case errno.EACCES | errno.EPERM:
            return f"{where}: not permitted; ports below 1024 need a privilege, others do not"
        case errno.EADDRNOTAVAIL:
            return f"{where}: this machine has no such address"
        case _:
            return f"{where}: cannot listen there: {_reason(error)}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
