"""`python -m tests.upstream`: the small crates.io by hand, with the sample crates."""

from __future__ import annotations

import argparse
import threading

from tests.upstream import Upstream, samples


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description="A small crates.io on loopback.")
    parser.add_argument("--port", type=int, default=0, help="of the API; the index and static hosts get the next two")
    first = parser.parse_args().port
    ports = (first, first + 1, first + 2) if first else (0, 0, 0)
    with Upstream.running(ports=ports) as upstream:
        print(f"API     {upstream.api}\nindex   {upstream.index}\nstatic  {upstream.static}\n")
        print("Crates:")
        for package in upstream.registry.packages.values():
            print(f"  {package.name} " + ", ".join(one.num + " (yanked)" * one.yanked for one in package.releases))
        print(f"\nToken of their owner {samples.OWNER}: {samples.TOKEN}\n\nThe proxy in front of it:\n")
        env = " \\\n  ".join(f"{name}={value}" for name, value in upstream.settings_env().items())
        print(f"  {env} \\\n  crates-proxy serve\n\nCtrl-C ends this.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
