"""The example dashboard and the alert rules ask for what is really exported, in expressions that Prometheus parses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from proxy.metrics import exposition, table
from proxy.metrics.table import Kind, StoreName
from proxy.model import Host, Verdict
from tests.deploy.files import ROOT

GRAFANA: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana.json").read_text())
ALERTS: dict[str, Any] = YAML(typ="safe").load(Path(ROOT / "deploy" / "alerts.yaml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]

VALUES = {
    "verdict": {verdict.value for verdict in Verdict},
    "host": {host.value for host in Host},
    "store": {store.value for store in StoreName},
    "direction": {direction.value for direction in table.Direction},
    "status": {"000", "200", "206", "304", "400", "404", "429", "500", "502", "504"},
}
FOREIGN = {"job", "instance"}  # Prometheus' own labels of a scrape


def exported() -> dict[str, set[str]]:
    """Name of a sample -> its labels, as the text for Prometheus has them."""
    found: dict[str, set[str]] = {}
    for row in table.TABLE:
        bounds = ("_bucket", "_sum", "_count") if row.kind is Kind.HISTOGRAM else ("",)
        for suffix in bounds:
            labels = {*row.labels, *(("le",) if suffix == "_bucket" else ())}
            found[f"{table.PREFIX}{row.name}{suffix}"] = labels
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in GRAFANA["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def selectors(expression: str) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Each metric that is asked for, with its matchers: label -> operator and value."""
    found = []
    for name, matchers in re.findall(r"\b(crates_proxy_\w+|up\b)(?:\{([^}]*)\})?", expression):
        pairs = re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', matchers)
        found.append((name, {label: (operator, value) for label, operator, value in pairs}))
    return found


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_asks_for_what_is_exported(where: str, expression: str) -> None:
    plain = expression.replace("$__rate_interval", "5m").replace("$__range", "6h")
    promql_parser.parse(plain)
    known = exported()
    asked = selectors(expression)
    assert asked
    for name, matchers in asked:
        if name == "up":
            continue
        assert name in known, where
        assert set(matchers) <= known[name] | FOREIGN, where
        for label, (operator, value) in matchers.items():
            if label in VALUES and operator in ("=", "=~"):
                for choice in value.split("|"):
                    assert any(re.fullmatch(choice, each) for each in VALUES[label]), f"{where}: {label} {choice}"
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        wanted = {label.strip() for label in labels.split(",")}
        assert any(wanted <= known.get(name, set()) | FOREIGN for name, _ in asked), where


def test_names_that_nobody_asks_for_would_be_missed() -> None:
    asked = {name for _, expression in expressions() for name, _ in selectors(expression)}
    rows = {row.name for row in table.TABLE}
    assert rows == {re.sub(r"_(bucket|sum|count)$", "", name).removeprefix(table.PREFIX) for name in asked - {"up"}}, (
        "the dashboard shows every metric"
    )


def test_a_wrong_name_would_be_found() -> None:
    assert selectors('rate(crates_proxy_nothing_total{host="api"}[5m])') == [
        ("crates_proxy_nothing_total", {"host": ("=", "api")})
    ]
    assert "crates_proxy_nothing_total" not in exported()
    with pytest.raises(ValueError):
        promql_parser.parse("sum by (host (rate(x[5m]))")


def test_the_names_are_those_of_the_text_for_prometheus() -> None:
    text, _ = exposition.rendered({(row.name, *["x"] * len(row.labels)): 1 for row in table.TABLE}, "")
    families = set(re.findall(r"^# TYPE (\w+)", text.decode(), re.MULTILINE))
    assert families == {table.PREFIX + row.name for row in table.TABLE}


def test_every_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 8
    for rule in RULES:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert len(rule["annotations"]["description"]) > 40
        for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
            assert label in ("instance", "host", "store")
            assert label == "instance" or f"{label})" in rule["expr"] or f"{label} " in rule["expr"]


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    panels = GRAFANA["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
    assert [variable["name"] for variable in GRAFANA["templating"]["list"]] == ["datasource", "job"]
