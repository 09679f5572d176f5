"""Packages that a user has on disk."""

from __future__ import annotations

from pathlib import Path

from tests.upstream import Source
from tests.upstream.crates import files


def library(path: Path, name: str, version: str = "0.1.0", *, padding: int = 0) -> Path:
    """Writes a library without dependencies to `path`, ready to be published."""
    for file, content in files(Source(name, version, padding=padding)).items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(content)
    return path
