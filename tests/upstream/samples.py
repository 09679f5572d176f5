"""A ready registry of small crates that need one another, and a program that needs them.

Between them: names of one, two and three letters, upper case with `-` and `_`, build metadata, a pre-release,
a yanked version, an optional dependency behind a feature, a renamed one, ones for building and testing only,
one for another platform, a build script with `links`.
"""

from __future__ import annotations

from pathlib import Path

from tests.upstream.crates import Dependency, Source
from tests.upstream.registry import Registry

OWNER, OTHER = "ferris", "corro"
TOKEN = "cioSampleTokenOfFerris0123456789"
OTHER_TOKEN = "cioSampleTokenOfCorro01234567890"
SESSION = "session-of-ferris"

LEAF = '/// Which one this is.\npub fn version() -> &\'static str {\n    env!("CARGO_PKG_VERSION")\n}\n'

SOURCES = (
    Source("a", "1.0.0", description="One letter", keywords=("tiny",)),
    Source("ok", "0.1.0", description="Two letters", keywords=("tiny",)),
    Source("ok", "0.2.0", description="Two letters", keywords=("tiny",)),
    Source("abc", "1.0.0", description="Three letters", keywords=("tiny", "letters"), categories=("encoding",)),
    Source("leaf", "1.0.0", code=LEAF, description="Depends on nothing"),
    Source("leaf", "1.1.0", code=LEAF, description="Depends on nothing"),
    Source("leaf", "1.2.0", code=LEAF, description="Depends on nothing; yanked"),
    Source("leaf", "2.0.0-beta.1", code=LEAF, description="Depends on nothing, soon"),
    Source("meta-build", "1.0.0+b1", description="Has build metadata in its version"),
    Source(
        "Mixed_Name-rs",
        "0.3.0",
        (Dependency("abc"),),
        code="pub fn answer() -> u32 {\n    abc::answer()\n}\n",
        description="Upper case, `_` and `-`",
        categories=("encoding",),
    ),
    Source(
        "branch",
        "0.5.0",
        (Dependency("leaf"), Dependency("abc", optional=True)),
        {"default": ("std",), "std": (), "fancy": ("dep:abc",)},
        code="pub fn leaf() -> &'static str {\n    leaf::version()\n}\n"
        '#[cfg(feature = "fancy")]\npub fn answer() -> u32 {\n    abc::answer()\n}\n',
        description="Has a feature that brings a dependency",
        keywords=("letters",),
        rust_version="1.60",
    ),
    Source(
        "tooling",
        "0.1.0",
        (
            Dependency("ok", "0.2", kind="build"),
            Dependency("leaf", kind="dev"),
            Dependency("a", target="cfg(windows)"),
        ),
        build="fn main() {\n    assert_eq!(ok::answer(), 42);\n}\n",
        description="Has a build script",
        categories=("development-tools",),
        links="tooling-sample",
        rust_version="1.56",
    ),
    Source(
        "renamed",
        "1.0.0",
        (Dependency("sheet", "1.0", package="leaf"),),
        code="pub fn sheet() -> &'static str {\n    sheet::version()\n}\n",
        description="Calls a dependency by another name",
    ),
    Source(
        "tree",
        "1.0.0",
        (Dependency("branch", "0.5", ("fancy",), default_features=False), Dependency("Mixed_Name-rs", "0.3")),
        code="pub fn answer() -> u32 {\n    branch::answer() + Mixed_Name_rs::answer()\n}\n",
        description="Depends on what depends on others",
        keywords=("letters",),
    ),
)

# The first crate is this old, and each next one a day younger (2024-01-01).
BEGINNING = 1_704_067_200.0


def registry() -> Registry:
    """A new registry holding `SOURCES`, owned by `OWNER`; `TOKEN` and `SESSION` are the owner's."""
    made = Registry()
    made.user(OWNER, token=TOKEN, session=SESSION)
    made.user(OTHER, token=OTHER_TOKEN)
    for day, source in enumerate(SOURCES):
        made.add(source, OWNER, at=BEGINNING + day * 86400.0)
    made.yank("leaf", "1.2.0", message="does not compile")
    leaf = made.package("leaf")
    leaf.updated_at = leaf.index_at = BEGINNING + len(SOURCES) * 86400.0
    return made


NEEDS = {"tree": "1", "tooling": "0.1", "renamed": "1", "meta-build": "1", "a": "1"}
"""What the sample program asks for."""

LOCKED = {
    "Mixed_Name-rs": "0.3.0",
    "a": "1.0.0",
    "abc": "1.0.0",
    "branch": "0.5.0",
    "leaf": "1.1.0",
    "meta-build": "1.0.0+b1",
    "ok": "0.2.0",
    "renamed": "1.0.0",
    "tooling": "0.1.0",
    "tree": "1.0.0",
}
"""What it therefore gets: name -> version."""

SAYS = "126 1.1.0 42\n"
"""What it prints."""

_MAIN = """fn main() {
    println!("{} {} {}", tree::answer() + a::answer(), renamed::sheet(), tooling::answer() * meta_build::answer() / 42);
}
"""


def project(path: Path, name: str = "sample-program") -> Path:
    """Writes a program that depends on most of the crates to `path`, and returns `path`."""
    (path / "src").mkdir(parents=True)
    needs = "".join(f'{crate} = "{req}"\n' for crate, req in NEEDS.items())
    text = f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n{needs}\n[workspace]\n'
    (path / "Cargo.toml").write_text(text)
    (path / "src" / "main.rs").write_text(_MAIN)
    return path
