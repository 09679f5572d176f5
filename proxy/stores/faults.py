"""Faults of a medium, told once for each kind until it works again. It knows no medium and does not log."""

from __future__ import annotations

from proxy.stores.base import Observer


class Faults:
    """The standing faults of one store, by what was being done. For one event loop."""

    def __init__(self, name: str, observer: Observer) -> None:
        self._name = name
        self._observer = observer
        self._standing: dict[str, dict[str, str]] = {}

    def failed(self, doing: str, fault: str, detail: str) -> None:
        """`doing` met `fault`; the observer hears of it unless it already stands."""
        standing = self._standing.setdefault(doing, {})
        if fault not in standing:
            self._observer(self._name, f"{doing}: {detail}")
        standing[fault] = detail

    def worked(self, doing: str) -> None:
        """`doing` works: whatever fails from now on is news."""
        if self._standing and self._standing.pop(doing, None) is not None:
            self._observer(self._name, f"{doing}: works again")

    def stands(self, doing: str) -> bool:
        """Whether `doing` did not work the last time."""
        return doing in self._standing

    def told(self, what: str) -> None:
        """Tell the observer what happens once by itself."""
        self._observer(self._name, what)

    @property
    def detail(self) -> str:
        """What stands, as one sentence; "" where all is well."""
        return "; ".join(f"{doing}: {detail}" for doing, kinds in self._standing.items() for detail in kinds.values())
