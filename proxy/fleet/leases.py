"""Who holds which lease and who waits for it: the hub's table. It does no I/O, it says whom to send what.

A hub that takes over from one that died knows nothing of the leases that were held. It is `settling`: it grants
nothing until those who hold one have had the time to come and say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from proxy.fleet.messages import Message, line

M = TypeVar("M")


class Turn(StrEnum):
    """What a member hears about a lease that it asked for."""

    WAIT = "wait"
    HELD = "held"
    DONE = "done"


@dataclass(eq=False)
class _Queue(Generic[M]):
    holder: tuple[M, str] | None = None
    waiting: dict[tuple[M, str], None] = field(default_factory=dict)
    word: str | None = None


class Leases(Generic[M]):
    def __init__(self, send: Callable[[M, bytes], None], *, settling: bool) -> None:
        self._send = send
        self._settling = settling
        self._queues: dict[str, _Queue[M]] = {}
        self._keys: dict[M, dict[str, str]] = {}  # the number that a member gave its wish -> the key

    def __len__(self) -> int:
        return len(self._queues)

    def asked(self, member: M, message: Message) -> None:
        """A member wants a lease, or says after the death of a hub that it holds one."""
        match message:
            case {"id": str() as number, "key": str() as key, "held": bool() as held}:
                pass
            case _:
                return
        queue = self._queues.setdefault(key, _Queue())
        self._keys.setdefault(member, {})[number] = key
        claimant = (member, number)
        if queue.holder is None and (held or not self._settling):
            queue.holder = claimant
            self._turn(claimant, Turn.HELD)
            return
        # One of two who hold the same lease was held for dead: it goes on with its work, and counts as waiting here.
        queue.waiting[claimant] = None
        self._turn(claimant, Turn.WAIT)
        if queue.word is not None:
            self._send(member, line("word", id=number, word=queue.word))

    def told(self, member: M, message: Message) -> None:
        number, word = str(message.get("id")), message.get("word")
        queue = self._queues.get(self._keys.get(member, {}).get(number, ""))
        if queue is None or queue.holder != (member, number) or not isinstance(word, str):
            return
        queue.word = word
        for waiter, its_number in queue.waiting:
            self._send(waiter, line("word", id=its_number, word=word))

    def released(self, member: M, message: Message) -> None:
        """A member is through with a lease, or wants it no more."""
        self._over(member, str(message.get("id")), done=message.get("done") is True)

    def gone(self, member: M) -> None:
        """A member is dead, and its leases are over."""
        for number in [*self._keys.get(member, {})]:
            self._over(member, number, done=False)
        self._keys.pop(member, None)

    def settled(self) -> None:
        self._settling = False
        for key, queue in [*self._queues.items()]:
            self._next(key, queue)

    def _over(self, member: M, number: str, *, done: bool) -> None:
        numbers = self._keys.get(member, {})
        key = numbers.pop(number, None)
        if not numbers:
            self._keys.pop(member, None)
        if key is None:
            return
        queue, claimant = self._queues[key], (member, number)
        queue.waiting.pop(claimant, None)
        if queue.holder == claimant:
            queue.holder = queue.word = None
            if done:
                self._all(queue)
        self._next(key, queue)

    def _all(self, queue: _Queue[M]) -> None:
        for member, number in queue.waiting:
            del self._keys[member][number]
            self._turn((member, number), Turn.DONE)
        queue.waiting.clear()

    def _next(self, key: str, queue: _Queue[M]) -> None:
        if queue.holder is None and queue.waiting and not self._settling:
            queue.holder = next(iter(queue.waiting))
            del queue.waiting[queue.holder]
            self._turn(queue.holder, Turn.HELD)
        if queue.holder is None and not queue.waiting:
            del self._queues[key]

    def _turn(self, claimant: tuple[M, str], turn: Turn) -> None:
        self._send(claimant[0], line("turn", id=claimant[1], turn=turn))
