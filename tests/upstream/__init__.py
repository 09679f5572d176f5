"""A small crates.io on loopback: API, index and static host, for tests and for trying the proxy without internet.

It imitates crates.io as measured (headers, texts, statuses, what is missing and how), can be changed like it
(publish, yank, owners), tells what it was asked, and fails in every way the network knows. Nothing in it is the
proxy's: it shares no code with what it tests.
"""

from tests.upstream import faults, samples
from tests.upstream.api import IpLimit
from tests.upstream.crates import Dependency, Source
from tests.upstream.registry import Registry
from tests.upstream.server import Asked, Upstream

__all__ = ["Asked", "Dependency", "IpLimit", "Registry", "Source", "Upstream", "faults", "samples"]
