"""Real programs, as a user would run them: the proxy and cargo, each a process of its own.

Nothing of this machine leaks into them: no settings from the environment, no cargo home, no other registry.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.toolchains import Toolchain
from tests.waiting import came

ROOT = Path(__file__).parents[2]

START_WITHIN = 45.0  # of a machine that is busy with other tests
STOP_WITHIN = 15.0

_SERVING = re.compile(r"crates-proxy: serving on (https?://[^\s\"]+)")


class Proxy:
    """`python -m proxy serve` on a free port, its cache and its log below `directory`."""

    arguments: Sequence[str] = ()  # further ones of `serve`

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.cache = directory / "cache"
        self.log_file = directory / "proxy.log"
        self.url = ""
        # One Redis serves many tests: each proxy keeps to itself.
        self.prefix = f"e2e-{zlib.crc32(bytes(directory))}:"
        self._home = directory / "home"
        self._home.mkdir(parents=True)
        self._settings = {
            "CRATES_PROXY_SERVER__PORT": "0",
            "CRATES_PROXY_CACHE__DIR": str(self.cache),
            "CRATES_PROXY_REDIS__PREFIX": self.prefix,
            "CRATES_PROXY_UPSTREAM__CONTACT": "e2e@example.com",
            "CRATES_PROXY_UPSTREAM__REQUESTS_PER_SECOND": "1000",
            "CRATES_PROXY_UPSTREAM__BURST": "1000",
            "CRATES_PROXY_UPSTREAM__WINDOW_REQUESTS": "1000000",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def pids(self) -> list[int]:
        """Its processes: the supervisor, where there is one, and the workers."""
        assert self._process is not None
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(ProcessLookupError):
                if os.getpgid(int(folder.name)) == self._process.pid:
                    found.append(int(folder.name))
        return found

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    def tell(self, number: signal.Signals, pid: int = 0) -> None:
        """To one of its processes, by default the one that was started."""
        os.kill(pid or self.pid, number)

    def start(self, **settings: str) -> None:
        """Starts it and waits until it serves; `settings` are further environment, for this start."""
        before = len(self.log)
        env = {"PATH": os.environ["PATH"], "HOME": str(self._home), **self._settings, **settings}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", *self.arguments],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = self._process
        came(lambda: _SERVING.search(self.log, before) or process.poll() is not None, START_WITHIN)
        serving = _SERVING.search(self.log, before)
        if serving is None:
            code = process.poll()
            self.kill()
            raise AssertionError(f"the proxy does not serve (exit {code}); its log ends:\n{self.log[-3000:]}")
        self.url = serving[1]

    def stop(self, within: float = STOP_WITHIN) -> int:
        """SIGTERM; returns the exit code."""
        return self._ended(signal.SIGTERM, within)

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        self._ended(signal.SIGKILL)

    def _ended(self, how: signal.Signals, within: float = STOP_WITHIN) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        try:
            os.killpg(process.pid, how)
            return process.wait(within)
        except ProcessLookupError:
            return process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_WITHIN)
            raise AssertionError(f"the proxy did not end; its log ends:\n{self.log[-3000:]}") from None

    def files_holding(self, text: bytes) -> list[Path]:
        """Files below the cache directory that have `text` in them."""
        return [path for path in self.cache.rglob("*") if path.is_file() and text in path.read_bytes()]


@contextmanager
def proxy(directory: Path, settings: Mapping[str, str]) -> Iterator[Proxy]:
    """A proxy that serves, killed at the end."""
    started = Proxy(directory, settings)
    try:
        started.start()
        yield started
    finally:
        started.kill()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did; `text` is all it printed."""

    code: int
    output: str
    text: str


class Cargo:
    """One user: a cargo with an empty home of its own, for whom `index` is the mirror."""

    def __init__(self, toolchain: Toolchain, home: Path, index: str) -> None:
        self.toolchain = toolchain
        self.home = home
        self.index = index
        home.mkdir(parents=True)

    @property
    def config(self) -> str:
        """`.cargo/config.toml` as the README tells it."""
        return (
            f'[source.crates-io]\nreplace-with = "mirror"\n'
            f'[source.mirror]\nregistry = "sparse+{self.index}/"\n'
            f'[registries.mirror]\nindex = "sparse+{self.index}/"\n'
        )

    def run(self, *args: str, cwd: Path, token: str = "", within: float = 60.0) -> Ran:
        """Runs `cargo ARGS` in the package at `cwd`."""
        (cwd / ".cargo").mkdir(exist_ok=True)
        (cwd / ".cargo/config.toml").write_text(self.config)
        env = {
            # The compiler of the same toolchain; the linker is the system's.
            "PATH": f"{self.toolchain.cargo.parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "CARGO_HOME": str(self.home),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup")),
            "RUSTUP_AUTO_INSTALL": "0",
            "CARGO_NET_RETRY": "1",
            "CARGO_TERM_COLOR": "never",
            "CARGO_INCREMENTAL": "0",
            "CARGO_PROFILE_DEV_DEBUG": "0",
            "CARGO_TARGET_DIR": str(self.home / "target"),
            **({"CARGO_REGISTRIES_MIRROR_TOKEN": token} if token else {}),
        }
        done = subprocess.run(
            [self.toolchain.cargo, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=within, check=False
        )
        return Ran(done.returncode, done.stdout, done.stdout + done.stderr)

    def must(self, *args: str, cwd: Path, token: str = "") -> Ran:
        """`run`, and it succeeds."""
        ran = self.run(*args, cwd=cwd, token=token)
        assert ran.code == 0, f"cargo {' '.join(args)} ended with {ran.code}:\n{ran.text}"
        return ran

    def says(self, program: str = "sample-program") -> str:
        """What the program prints that this user has built."""
        binary = self.home / "target/debug" / program
        return subprocess.run([binary], capture_output=True, text=True, check=True).stdout
