from __future__ import annotations

import pytest

from proxy.rules import templates

SHA = "0123456789abcdef" * 4

# Template and path -> what the names stand for, None where the path is not of the template.
MATCHES: dict[tuple[str, str], dict[str, str] | None] = {
    ("/a", "/a"): {},
    ("/a", "/a/"): None,
    ("/a", "/ab"): None,
    ("/a", "/a\n"): None,
    ("/a.b", "/a.b"): {},
    ("/a.b", "/axb"): None,
    ("/a/{x}", "/a/b"): {"x": "b"},
    ("/a/{x}", "/a/"): None,
    ("/a/{x}", "/a/b/c"): None,
    ("/a/{x}/c", "/a/b/c"): {"x": "b"},
    ("/a/{x}/{y}", "/a/b/c"): {"x": "b", "y": "c"},
    ("/a/{rest*}", "/a/b/c"): {"rest": "b/c"},
    ("/a/{rest*}", "/a/b"): {"rest": "b"},
    ("/a/{rest*}", "/a/"): None,
    ("/a/{rest*}", "/a"): None,
    ("/{x}/{x}-{y}.z", "/a-b/a-b-1.z"): {"x": "a-b", "y": "1"},
    ("/{x}/{x}-{y}.z", "/a/b-1.z"): None,
    ("/{x}/{x}-{y}.z", "/a/a-1.y"): None,
    ("/{sha256}", f"/{SHA}"): {"sha256": SHA},
    ("/{sha256}", f"/{SHA.upper()}"): None,
    ("/{sha256}", f"/{SHA[:-1]}"): None,
    ("/{sha256}", f"/{SHA}0"): None,
}


@pytest.mark.parametrize(("template", "path"), MATCHES)
def test_a_template_takes_the_paths_of_its_form(template: str, path: str) -> None:
    found = templates.pattern(template).fullmatch(path)
    assert (None if found is None else found.groupdict()) == MATCHES[template, path]
