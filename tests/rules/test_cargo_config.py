from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.rules import cargo_config
from proxy.rules.cargo_config import File, Said

NEAR = File("/p/.cargo/config.toml", '[net]\noffline = true\n[source.crates-io]\nreplace-with = "near"\n')
FAR = File(
    "/home/.cargo/config.toml",
    'include = "other.toml"\n[source.crates-io]\nreplace-with = "far"\n[source.far]\nregistry = "x"\n',
)
BROKEN = File("/b/.cargo/config.toml", "[net")
UNREADABLE = File("/u/.cargo/config.toml", error="Permission denied")


def test_the_nearest_file_wins_value_by_value() -> None:
    merged = cargo_config.merged([NEAR, FAR], {})
    assert merged.get("source", "crates-io", "replace-with") == Said("near", NEAR.path)
    assert merged.get("source", "far", "registry") == Said("x", FAR.path)
    assert merged.get("source", "near", "registry") is None
    assert merged.names("source") == ["crates-io", "far"]
    assert merged.table("source", "far") == {"registry": Said("x", FAR.path)}
    assert merged.included == [FAR.path]


def test_a_file_that_cannot_be_used_is_told_and_the_others_count() -> None:
    merged = cargo_config.merged([BROKEN, UNREADABLE, NEAR], {})
    assert merged.problems[UNREADABLE.path] == "Permission denied"
    assert merged.problems[BROKEN.path].startswith("it is not TOML (")
    assert merged.get("net", "offline") == Said(True, NEAR.path)


@pytest.mark.parametrize(
    ("environ", "key", "value"),
    [
        ({"CARGO_NET_OFFLINE": "false"}, ("net", "offline"), "false"),
        ({"CARGO_HTTP_PROXY": "p:1"}, ("http", "proxy"), "p:1"),
        ({"CARGO_REGISTRIES_CRATES_IO_PROTOCOL": "git"}, ("registries", "crates-io", "protocol"), "git"),
        ({"CARGO_REGISTRIES_MY_MIRROR_INDEX": "x"}, ("registries", "my_Mirror", "index"), "x"),
        ({"CARGO_REGISTRIES_AN_OTHER_INDEX": "y"}, ("registries", "an-other", "index"), "y"),
    ],
)
def test_the_environment_wins_over_the_files(environ: Mapping[str, str], key: tuple[str, ...], value: str) -> None:
    file = File("f", '[registries.my_Mirror]\nindex = "z"\n[net]\noffline = true\n')
    ((variable, _),) = environ.items()
    assert cargo_config.merged([file], environ).get(*key) == Said(value, variable)


def test_variables_that_look_like_sources_mean_nothing() -> None:
    environ = {"CARGO_SOURCE_CRATES_IO_REPLACE_WITH": "mirror", "CARGO_HOME": "/c", "PATH": "/bin"}
    assert cargo_config.ignored(environ) == ["CARGO_SOURCE_CRATES_IO_REPLACE_WITH"]
    assert not cargo_config.merged([], environ).said
