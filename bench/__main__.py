"""``python -m bench [--quick] [CASE...]``: run the cases side by side and print the table."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.cases import CASES, Place
from bench.daemons import Docker, Node, root_archive
from bench.report import Row, table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="pycompose and its peers side by side.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no large counts: under two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all values here")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"only these: {', '.join(CASES)}")
    found = parser.parse_args()
    unknown = [name for name in found.cases if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]}; there are {', '.join(CASES)}")
    return found


def main() -> int:
    """Run; returns 1 when a budget is missed."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pycompose-bench-")))
        archive = root_archive(folder)
        node = stack.enter_context(Node(folder / "node", archive))
        docker = stack.enter_context(Docker(folder / "docker", archive))
        place = Place(node, docker, folder, asked.quick)
        for name in asked.cases or CASES:
            print(f"{name} …", file=sys.stderr, flush=True)
            rows += CASES[name](place)
    print(f"{os.cpu_count()} cores, Linux {os.uname().release}, Python {sys.version.split()[0]}\n")
    print(table(rows))
    missed = [row.what for row in rows if row.missed()]
    print(f"\nbudgets missed: {', '.join(missed) or 'none'}")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
