"""Metrics as a test reads them: by Prometheus' own parser."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Samples(dict[tuple[str, ...], float]):
    """Name without our prefix, and the values of the labels in the order of the text -> value."""

    @classmethod
    def of(cls, text: str) -> Samples:
        return cls(
            {
                (sample.name.removeprefix("crates_proxy_"), *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def total(self, name: str, *labels: str) -> float:
        """Over all series of this name that have these labels."""
        return sum(value for (found, *values), value in self.items() if found == name and {*labels} <= {*values})


def metrics(url: str) -> Samples:
    answer = httpx.get(f"{url}/metrics", trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text
    return Samples.of(answer.text)


def stats(url: str) -> dict[str, Any]:
    answer = httpx.get(f"{url}/-/stats", trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
