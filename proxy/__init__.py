"""crates-proxy: a caching reverse proxy and mirror for crates.io."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("crates-proxy")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
