"""Crates made from a few lines of source: real tarballs with real checksums, and what `cargo publish` tells of them.

The same source gives the same bytes on every run.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Tarballs are dated so, as those that cargo packs are (the date of the first one ever packed).
PACKED_AT = 1_153_704_088


@dataclass(frozen=True, slots=True)
class Dependency:
    """`name` is that in the manifest; `package` is the crate's own name where the two differ."""

    name: str
    req: str = "1"
    features: tuple[str, ...] = ()
    optional: bool = False
    default_features: bool = True
    target: str | None = None
    kind: str = "normal"
    package: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a crate to be built. `padding` adds so many bytes that don't compress."""

    name: str
    version: str = "1.0.0"
    dependencies: tuple[Dependency, ...] = ()
    features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    code: str = "pub fn answer() -> u32 {\n    42\n}\n"
    build: str | None = None
    description: str = "A small crate"
    keywords: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    links: str | None = None
    rust_version: str | None = None
    padding: int = 0


def manifest(source: Source) -> str:
    """Cargo.toml."""
    package = {
        "name": source.name,
        "version": source.version,
        "edition": "2021",
        "description": source.description,
        "license": "MIT OR Apache-2.0",
        "readme": "README.md",
        "keywords": list(source.keywords),
        "categories": list(source.categories),
        "links": source.links,
        "rust-version": source.rust_version,
        "build": "build.rs" if source.build is not None else None,
    }
    # JSON's strings, numbers and lists are TOML's too.
    lines = ["[package]", *(f"{key} = {json.dumps(value)}" for key, value in package.items() if value)]
    tables = {"normal": "dependencies", "dev": "dev-dependencies", "build": "build-dependencies"}
    for dep in source.dependencies:
        prefix = f"target.{json.dumps(dep.target)}." if dep.target else ""
        lines += [
            "",
            f"[{prefix}{tables[dep.kind]}.{json.dumps(dep.name)}]",
            f"version = {json.dumps(dep.req)}",
        ]
        lines += [f"package = {json.dumps(dep.package)}"] if dep.package else []
        lines += [f"features = {json.dumps(dep.features)}"] if dep.features else []
        lines += ["optional = true"] if dep.optional else []
        lines += [] if dep.default_features else ["default-features = false"]
    if source.features:
        lines += ["", "[features]"]
        lines += [f"{json.dumps(name)} = {json.dumps(wants)}" for name, wants in source.features.items()]
    return "\n".join(lines) + "\n"


def files(source: Source) -> dict[str, bytes]:
    """The files of a package, as they would lie in its repository."""
    found = {
        "Cargo.toml": manifest(source).encode(),
        "README.md": f"# {source.name}\n\n{source.description}.\n".encode(),
        "src/lib.rs": source.code.encode(),
    }
    if source.build is not None:
        found["build.rs"] = source.build.encode()
    if source.padding:
        found["padding.bin"] = random.Random(f"{source.name}-{source.version}").randbytes(source.padding)
    return found


def tarball(source: Source) -> bytes:
    """The `.crate` file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in sorted(files(source).items()):
            info = tarfile.TarInfo(f"{source.name}-{source.version}/{path}")
            info.size = len(content)
            info.mtime = PACKED_AT
            info.mode = 0o644
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def metadata(source: Source) -> dict[str, Any]:
    """The JSON that `cargo publish` sends along with the tarball."""
    return {
        "name": source.name,
        "vers": source.version,
        "deps": [
            {
                "name": dep.package or dep.name,
                "version_req": dep.req if dep.req[:1] in "^=~><*" else f"^{dep.req}",
                "features": list(dep.features),
                "optional": dep.optional,
                "default_features": dep.default_features,
                "target": dep.target,
                "kind": dep.kind,
                "registry": None,
                "explicit_name_in_toml": dep.name if dep.package else None,
            }
            for dep in source.dependencies
        ],
        "features": {name: list(wants) for name, wants in source.features.items()},
        "authors": [],
        "description": source.description,
        "documentation": None,
        "homepage": None,
        "readme": f"# {source.name}\n\n{source.description}.\n",
        "readme_file": "README.md",
        "keywords": list(source.keywords),
        "categories": list(source.categories),
        "license": "MIT OR Apache-2.0",
        "license_file": None,
        "repository": f"https://example.com/{source.name}",
        "badges": {},
        "links": source.links,
        "rust_version": source.rust_version,
    }


def publish_body(source: Source) -> bytes:
    """The body of `PUT /api/v1/crates/new`: two lengths (u32, little-endian), JSON and tarball."""
    text, packed = json.dumps(metadata(source)).encode(), tarball(source)
    return struct.pack("<I", len(text)) + text + struct.pack("<I", len(packed)) + packed
