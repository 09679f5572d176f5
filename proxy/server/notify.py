"""Tells a service manager how the server is, where there is one that listens: the protocol of sd_notify(3).

One datagram of lines to the socket that NOTIFY_SOCKET names. It knows neither the server nor the manager.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


def tell(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send lines such as READY=1. A manager that is gone or does not take them is no reason to stop serving."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):  # none, or one that is not of this machine (vsock)
        return
    name = address.encode() if address[0] == "/" else b"\0" + address[1:].encode()  # unix(7): an abstract address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(lines).encode(), name)
