"""What `setup` does: the lines that make cargo use this proxy, printed or written into the user's own configuration."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from proxy.errors import Error, Refused
from proxy.rules import cargo_lines
from proxy.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def base(settings: Settings) -> str:
    """Where clients reach this proxy: without `server.public_url`, from this machine itself. "" where the settings do
    not tell: a port that is picked, a Unix socket."""
    server = settings.server
    if server.public_url:
        return server.public_url
    if server.socket or not server.port:
        return ""
    host = _EVERYWHERE.get(server.host, server.host)
    return f"{'https' if server.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{server.port}"


def index(settings: Settings) -> str:
    """What cargo is to be told. Raises `Refused` where the settings do not say where clients reach this proxy."""
    where = base(settings)
    if not where:
        raise Refused("server.public_url: must be set where the address does not tell how clients reach this proxy")
    return f"sparse+{where}/index/"


def local_only(settings: Settings) -> bool:
    """Whether the address is right on this machine alone, though others are let in."""
    return not settings.server.public_url and settings.server.host in _EVERYWHERE


def configuration(environ: Mapping[str, str]) -> Path:
    """The user's own configuration of cargo, there or not. Raises `Refused` where nothing says where it would be."""
    home = environ.get("CARGO_HOME") or (f"{environ['HOME']}/.cargo" if environ.get("HOME") else "")
    if not home:
        raise Refused("neither $CARGO_HOME nor $HOME is set")
    old = Path(home, "config")  # cargo reads this one where there are both
    return old if old.is_file() else Path(home, "config.toml")


def write(file: Path, index: str) -> str:
    """Bring the lines into `file`, keeping what else is there; what was done, for people. What was there before is kept
    beside it. Raises `Refused` where something there contradicts them, `Error` where the file cannot be used."""
    real = Path(os.path.realpath(file))  # it may well be a link to where somebody keeps such files
    try:
        before = real.read_text(encoding="utf-8") if real.exists() else ""
        try:
            after = cargo_lines.added(before, index)
        except Refused as refused:
            raise Refused(f"{file}: {refused.detail}") from None
        if after == before:
            return f"{file} has these lines already"
        real.parent.mkdir(parents=True, exist_ok=True)
        backup = real.with_name(f"{real.name}.before-crates-proxy")
        kept = ""
        if before and not backup.exists():
            _replaced(backup, before, real)
            kept = f"; what it was before is in {backup}"
        _replaced(real, after, real)
    except UnicodeDecodeError:
        raise Error(f"{file}: it is not text") from None
    except OSError as error:
        raise Error(f"{file} cannot be written: {error.strerror or error}") from None
    return f"{file} tells cargo to use {index}{kept}"


def _replaced(file: Path, text: str, like: Path) -> None:
    """Write a file at once, with the mode of `like` where that exists."""
    descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(partial, like.stat().st_mode & 0o777 if like.exists() else 0o644)
        os.replace(partial, file)
    except BaseException:
        os.unlink(partial)
        raise
