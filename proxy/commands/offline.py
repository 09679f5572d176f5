"""What the commands do that make a cache ready for a time without crates.io: `warm` and `check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from proxy import report, wiring
from proxy.commands.progress import Told
from proxy.engine.inventory import Lack, Wanted, named
from proxy.engine.warming import Warmed
from proxy.errors import Refused
from proxy.rules import lockfile, names
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class Needs:
    """What arguments ask for. `elsewhere`: the packages of lock files that do not come from crates.io."""

    wanted: list[Wanted]
    elsewhere: list[str]


def wanted(arguments: Sequence[str], stdin: TextIO) -> Needs:
    """What arguments of `warm` name. Raises `Refused` that says which argument is wrong and why."""
    found = Needs([], [])
    for argument in arguments:
        if argument == "-" or "/" in argument or argument.endswith(".lock"):
            _add(found, argument, stdin)
            continue
        name, at, version = argument.partition("@")
        if not names.is_name(name) or (at and not names.is_version(version)):
            raise Refused(f"`{argument}` is neither NAME nor NAME@VERSION; a lock file has a / or ends in .lock")
        found.wanted.append(Wanted(name, version or None))
    return found


def locked(arguments: Sequence[str], stdin: TextIO) -> Needs:
    """What lock files need; "-" is standard input. Raises `Refused` that says which file is wrong and why."""
    found = Needs([], [])
    for argument in arguments:
        _add(found, argument, stdin)
    return found


async def warm(settings: Settings, directory: Path, needs: Needs, *, as_json: bool) -> bool:
    """Fetch what is missing, with a progress bar; say what came of it. Whether all of it is there now."""
    total = len(set(needs.wanted))
    async with wiring.opened(settings, directory) as proxy:
        with Told("warming", total) as progress:
            ended = await proxy.ready.warming.run(
                needs.wanted, lambda each: progress.tell(size=each.fetched, failed=each.failure is not None)
            )
        failures = [each for each in ended if each.failure is not None] + await proxy.ready.warming.evicted(ended)
    fetched = [each for each in ended if each.fetched]
    size = sum(each.fetched for each in fetched)
    before = sum(each.failure is None and not each.fetched for each in ended)
    if as_json:
        told = {"ok": not failures, "wanted": total, "fetched": len(fetched), "bytes": size, "before": before}
        print(json.dumps({**told, "failures": [_failure(each) for each in failures]}, indent=2))
        return not failures
    say_elsewhere(needs)
    _say_failures(failures)
    print(
        f"{total - len(failures)} of {total} are there: {report.size(size)} fetched"
        f" for {len(fetched)}, {before} were there before",
        file=sys.stderr,
    )
    if failures:
        print(f"{len(failures)} of {total} could not be had; run it again to fetch only those", file=sys.stderr)
    return not failures


async def check(settings: Settings, directory: Path, needs: Needs, *, as_json: bool) -> bool:
    """Say what is missing for a build from the cache alone. Whether nothing is. Nobody upstream is asked."""
    packages = named(needs.wanted)
    async with wiring.opened(settings, directory) as proxy:
        missing = []
        with Told("checking", len(packages)) as progress:
            for each in packages:
                lacks = await proxy.ready.inventory.lacks(each, hashed=True)
                missing += lacks
                progress.tell(failed=bool(lacks))
    if as_json:
        told = {"ok": not missing, "packages": len(packages), "missing": [_json(each) for each in missing]}
        print(json.dumps(told, indent=2))
        return not missing
    say_elsewhere(needs)
    for lack in missing:
        print(f"{lack.name} {lack.version}: {lack.what}: {lack.reason}", file=sys.stderr)
    if missing:
        short = len({(lack.name, lack.version) for lack in missing})
        print(f"{short} of {len(packages)} packages lack something: `crates-proxy warm` fetches it", file=sys.stderr)
    else:
        print(f"all there: {len(packages)} packages build from this cache alone")
    return not missing


def _add(found: Needs, argument: str, stdin: TextIO) -> None:
    try:
        text = stdin.read() if argument == "-" else Path(argument).read_text(encoding="utf-8")
        lock = lockfile.read(text)
    except OSError as error:
        raise Refused(f"{argument}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{argument}: it is not text") from None
    except Refused as error:
        raise Refused(f"{argument}: {error.detail}") from None
    found.wanted.extend(Wanted(each.name, each.version, each.checksum) for each in lock.packages)
    found.elsewhere.extend(lock.elsewhere)


def say_elsewhere(needs: Needs) -> None:
    if needs.elsewhere:
        which = ", ".join(sorted(set(needs.elsewhere)))
        print(f"left out, since they come from git or another registry: {which}", file=sys.stderr)


def _say_failures(failures: Sequence[Warmed]) -> None:
    for failure in failures:
        print(f"{failure.wanted}: {failure.failure}", file=sys.stderr)


def _failure(warmed: Warmed) -> dict[str, str | None]:
    return {"name": warmed.wanted.name, "version": warmed.wanted.version, "reason": warmed.failure}


def _json(lack: Lack) -> dict[str, str]:
    return {"name": lack.name, "version": lack.version, "what": lack.what.value, "reason": lack.reason}
