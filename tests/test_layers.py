"""Imports go down, never up; each foreign library is known in one place; files and functions stay small."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
    for path in sorted((ROOT / "proxy").rglob("*.py"))
}
TREES = {module: ast.parse(source) for module, source in SOURCES.items()}

# The first two parts of a module's name -> its height. What is imported is never higher than who imports it.
HEIGHTS = {
    "proxy": 0,
    "proxy.errors": 0,
    "proxy.lasting": 0,
    "proxy.model": 0,
    "proxy.rules": 1,
    "proxy.stores": 2,
    "proxy.fleet": 2,
    "proxy.upstream": 2,
    "proxy.engine": 3,
    "proxy.logs": 4,
    "proxy.metrics": 4,
    "proxy.settings": 4,
    "proxy.settings_sources": 4,
    "proxy.settings_urls": 4,
    "proxy.settings_values": 4,
    "proxy.tracing": 4,
    "proxy.report": 5,
    "proxy.rereading": 5,
    "proxy.server": 5,
    "proxy.starting": 5,
    "proxy.wiring": 5,  # it names the concrete classes of every part, the web's too
    "proxy.web": 5,
    "proxy.commands": 5,
    "proxy.doctor": 5,
    "proxy.cli": 5,
    "proxy.__main__": 5,
}

# Part -> what of this program it may import beside itself.
SEES = {
    "proxy.errors": (),
    "proxy.model": (),
    "proxy.rules": ("proxy.errors", "proxy.model"),
    "proxy.engine": (
        "proxy.errors",
        "proxy.lasting",
        "proxy.model",
        "proxy.rules",
        "proxy.stores.base",
        "proxy.stores.codec",
        "proxy.stores.memory",
        "proxy.fleet.base",
        "proxy.upstream.base",
    ),
}

# Part -> foreign libraries that it may import beside the standard library.
FOREIGN: dict[str, tuple[str, ...]] = {
    "proxy.errors": (),
    "proxy.model": (),
    "proxy.rules": ("http_sf",),
    "proxy.engine": (),
}

# Library -> the parts that may import it.
KNOWN_IN = {
    "backports": ("proxy.stores.zstandard",),
    "compression": ("proxy.stores.zstandard",),
    "diskcache": ("proxy.stores",),
    "httptools": ("proxy.server", "proxy.upstream.reading"),
    "httpcore": ("proxy.upstream",),
    "opentelemetry": ("proxy.tracing.otel",),
    "jinja2": ("proxy.web.dashboard",),
    "markupsafe": ("proxy.web.dashboard",),
    "prometheus_client": ("proxy.metrics",),
    "httpx": ("proxy.upstream",),
    "redis": ("proxy.stores", "proxy.fleet"),
    "starlette": ("proxy.web",),
    "uvicorn": ("proxy.server",),
    "proxy.settings": (
        "proxy.wiring",
        "proxy.web.app",
        "proxy.cli",
        "proxy.commands",
        "proxy.doctor",
        "proxy.rereading",
        "proxy.starting",
    ),
}

# What a rule that is a pure function has no use for.
IMPURE = ("asyncio", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time")

LONGEST_MODULE, LONGEST_FUNCTION = 300, 60


def imports(module: str) -> Iterator[str]:
    """Full names; `from a import b` is `a.b` where that is a module of this program, else `a`."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0, f"{module} imports relatively"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in TREES else node.module


def below(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def height(module: str) -> int:
    return HEIGHTS[".".join(module.split(".")[:2])]


@pytest.mark.parametrize("module", TREES)
def test_imports_go_down_and_never_up(module: str) -> None:
    for name in imports(module):
        if below(name, "proxy"):
            assert height(name) <= height(module), f"{module} imports {name}"


@pytest.mark.parametrize("part", SEES)
def test_a_part_sees_only_what_it_builds_on(part: str) -> None:
    for module in TREES:
        if below(module, part):
            for name in imports(module):
                own = below(name, "proxy")
                allowed = (part, *SEES[part]) if own else (*sys.stdlib_module_names, *FOREIGN[part])
                assert any(below(name, each) for each in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("library", KNOWN_IN)
def test_a_library_is_known_in_one_place(library: str) -> None:
    for module in TREES:
        if not any(below(module, part) for part in KNOWN_IN[library]):
            assert not [name for name in imports(module) if below(name, library)], f"{module} imports {library}"


@pytest.mark.parametrize("module", [module for module in TREES if below(module, "proxy.rules")])
def test_rules_know_no_clock_no_chance_and_no_environment(module: str) -> None:
    assert not [name for name in imports(module) if any(below(name, each) for each in IMPURE)]


@pytest.mark.parametrize("module", [module for module in TREES if below(module, "proxy.rules")])
def test_rules_wait_for_nothing(module: str) -> None:
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    assert not [node for node in ast.walk(TREES[module]) if isinstance(node, waiting)]


@pytest.mark.parametrize("module", TREES)
def test_no_module_and_no_function_is_long(module: str) -> None:
    assert len(SOURCES[module].splitlines()) <= LONGEST_MODULE
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{module}.{node.name}"
