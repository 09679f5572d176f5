"""A whole run, as short as can be; where the peers are not installed, what it says instead."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import filling, processes
from tests.bench.cores import Unfit
from tests.bench.stage import EMPTY, NGINX, OURS, TUNED, VARNISH

PEERS = {"nginx": "nginx", "varnishd": "varnish", "wrk": "wrk"}


def lacking() -> list[str]:
    packages = []
    for program, package in PEERS.items():
        try:
            processes.found(program, package)
        except Unfit:
            packages.append(package)
    return packages


def test_a_run_compares_all_and_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "build" / "bench"
    status = command.main(["--only", "index", "--rounds", "2", "--seconds", "0.2", "--check", "--out", str(path)])
    told = capsys.readouterr()
    if missing := lacking():
        assert status == 2
        assert f"apt-get install {missing[0]}" in told.err
        return
    written = json.loads(path.with_suffix(".json").read_text())
    rounds = written["results"]["index"]
    assert list(rounds) == [OURS, NGINX, TUNED, VARNISH, EMPTY]
    assert all(sample["value"] > 0 and sample["micros"] > 0 for samples in rounds.values() for sample in samples)
    assert [len(samples) for samples in rounds.values()] == [2] * 5
    assert {target["against"] for target in written["targets"]} == {NGINX, TUNED, EMPTY}
    assert status == (0 if all(target["holds"] for target in written["targets"]) else 1)
    assert path.with_suffix(".md").read_text() == told.out.removesuffix("\n")
    assert "index 2/2" in told.err


def test_a_case_that_there_is_not_is_told_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "jsom"]) == 2
    assert "jsom; there are json, index" in capsys.readouterr().err


def test_what_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(Unfit, match="apt-get install nginx"):
        processes.found("no-such-program", "nginx")


def test_a_filled_cache_holds_what_it_says(tmp_path: Path) -> None:
    filling.filled(tmp_path / "cache", 40, 4)
    for part in ("index", "json"):
        with sqlite3.connect(next((tmp_path / "cache" / part).glob("v*/cache.db"))) as database:
            keys = [key for (key,) in database.execute("SELECT key FROM Cache")]
        database.close()
        expected = [read.key for read in filling.reads(40) if (read.endpoint.name == "index") == (part == "index")]
        assert sorted(keys) == sorted(expected)
    assert len([path for path in (tmp_path / "cache" / "tarballs").glob("??/*") if len(path.name) == 62]) == 4
