"""What the server does to answer, in steps: bytes to send, a pause, an end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class End(Enum):
    """How a connection ends before its time."""

    CLOSE = auto()
    RESET = auto()
    STALL = auto()


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = bytes | Pause | End
