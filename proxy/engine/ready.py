"""Everything that makes a cache ready for a time without crates.io, for the commands and for the server."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.engine.exporting import Exporting
from proxy.engine.importing import Importing
from proxy.engine.inventory import Inventory
from proxy.engine.pinning import Upkeep
from proxy.engine.verifying import Verifying
from proxy.engine.warming import Warming


@dataclass(frozen=True, slots=True)
class Ready:
    inventory: Inventory
    warming: Warming
    exporting: Exporting
    importing: Importing
    upkeep: Upkeep
    verifying: Verifying
