"""What does not exist takes no room from what does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxied import proxied
from tests.upstream import Upstream

CRATE, INDEX = "/api/v1/crates/leaf", "/index/le/af/leaf"


@pytest.mark.parametrize("form", ["/api/v1/crates/n{0:07}", "/index/n0/00/n0{0:05}"])
def test_unknown_names_push_nothing_out(form: str, upstream: Upstream, tmp_path: Path) -> None:
    # Two hundred absences weigh twice as much as may be in memory here.
    with proxied(upstream, tmp_path, both_ways=False, cache__memory="256KiB") as proxy:
        for path in (CRATE, INDEX):
            assert proxy.get(path).headers["x-cache"] == "MISS"
        for number in range(200):
            assert proxy.get(form.format(number)).status_code == 404
        proxy.clock.now += 1
        before = len(upstream.asked())
        assert [proxy.get(path).headers["x-cache"] for path in (CRATE, INDEX)] == ["HIT", "HIT"]
        assert len(upstream.asked()) == before
        assert 'crates_proxy_evictions_total{store="memory"} 0.0' in proxy.get("/metrics").text.splitlines()
        stores = {store["store"]: store["entries"] for store in proxy.get("/-/stats").json()["stores"]}
        assert (stores["json"], stores["index"]) == (1, 1), "an absence is not written down"
