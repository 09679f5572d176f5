from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from proxy import errors
from proxy.rules import advice

SOURCES = Path(errors.__file__).parent
CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.Error) and each not in (errors.Refused, errors.SettingsError)
]


@pytest.mark.parametrize(
    "kind", [each.__name__ for each in CLASSES if each.__name__ not in ("ClientGone", "UpstreamError")]
)
def test_every_error_that_is_not_the_clients_own_has_an_advice(kind: str) -> None:
    assert advice.of_error(kind) != advice.of_error("of no kind that there is")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("redis", "reachable"),
        ("redis+index", "reachable"),
        ("index", "cache.dir"),
        ("index host", "doctor"),
        ("upstream api", "doctor"),
        ("pinned /etc/Cargo.lock", "check"),
        ("tarballs", "verify"),
        ("unheard of", "log"),
    ],
)
def test_components_are_told_apart(name: str, word: str) -> None:
    assert word in advice.of_component(name)


def test_what_is_advised_exists() -> None:
    source = Path(advice.__file__).read_text("utf-8")
    texts = " ".join(
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    commands = set(re.findall(r"`crates-proxy (\w+)", texts))
    assert commands == {"doctor", "warm", "verify", "check"}
    defaults = (SOURCES.parent / "config" / "default.toml").read_text("utf-8")
    for section, key in re.findall(r"`(upstream|cache|server|access)\.(\w+)`", texts):
        assert key == "dir" or re.search(rf"(?m)^{key} = ", defaults), f"{section}.{key}"


@pytest.mark.parametrize(
    ("happened", "is_one"),
    [("get: OSError", True), ("reaching the server: works again", False), ("evicted 3 files, 5 bytes", False)],
)
def test_good_news_are_no_trouble(happened: str, is_one: bool) -> None:
    assert advice.trouble(happened) is is_one
