"""The step that deploy/ci.md has a CI job begin with, run as it stands there: cargo then comes to the proxy."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from pathlib import Path

from ruamel.yaml import YAML

from tests.e2e import harness
from tests.e2e.harness import ROOT
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, samples


def test_a_ci_job_that_takes_the_step_of_the_guide_fetches_through_the_proxy(
    tmp_path: Path, upstream: Upstream, newest: Toolchain
) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "deploy/ci.md").read_text(), re.DOTALL)
    (step,) = YAML(typ="safe").load(textwrap.dedent(text))
    program = samples.project(tmp_path / "program")
    environ = {
        "PATH": f"{newest.cargo.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup")),
        "CARGO_NET_RETRY": "1",
        # Past the proxy there is nothing.
        "https_proxy": "http://127.0.0.1:1",
    }
    with harness.proxy(tmp_path / "proxy", upstream.settings_env()) as proxy:
        run = step["run"].replace("https://crates.example.org", proxy.url)
        assert proxy.url in run
        for command in (["bash", "-e", "-c", run], [str(newest.cargo), "fetch"]):
            done = subprocess.run(command, cwd=program, env=environ, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
    assert len(upstream.asked(host="static")) == len(samples.LOCKED)
    # Lock files stay as they are.
    assert 'source = "registry+https://github.com/rust-lang/crates.io-index"' in (program / "Cargo.lock").read_text()
