"""What `deploy/archive.md` tells a stranger is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.engine.inventory import Wanted
from tests.archives import Bytes
from tests.engine.test_importing import machine

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[2] / "deploy/archive.md"


@pytest.mark.parametrize("name", ["leaf", "abc", "ok", "a", "Mixed_Name-rs"])
async def test_the_program_in_the_document_writes_an_archive(name: str, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "pack.py").write_text(program)
    (tmp_path / "x.crate").write_bytes(b"a tarball")
    command = [sys.executable, "pack.py", name, "1.0.0+b1", "x.crate"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    async with machine(tmp_path / "cache") as proxy:
        imported = await proxy.ready.importing.run(Bytes(done.stdout), lambda size: None)
        assert (imported.copies, imported.tarballs, imported.refused, imported.broken) == (1, 1, [], "")
        assert await proxy.ready.inventory.lacks(Wanted(name, "1.0.0+b1"), hashed=True) == []
