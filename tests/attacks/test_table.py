from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.attacks.table import ATTACKS, Attack

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_what_shows_it_is_there(attack: Attack) -> None:
    for place in attack.tests:
        file, _, name = place.partition("::")
        found = {
            node.name
            for node in ast.walk(ast.parse((TESTS / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert found and (not name or name in found), place


def test_every_test_of_an_attack_is_in_the_table() -> None:
    named = {place.partition("::")[0] for attack in ATTACKS for place in attack.tests}
    files = {f"attacks/{path.name}" for path in (TESTS / "attacks").glob("test_*.py")} - {"attacks/test_table.py"}
    assert files <= named
