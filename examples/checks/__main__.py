"""``python -m checks [NAME …]``, in examples/: check applications, all without a name."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from checks import machine, steps
from checks.user import User

HERE = Path(__file__).resolve().parents[1]
#: The applications, with the images that they need.
APPLICATIONS = {
    "tickets": ("nginx", "postgres", "python"),
    "blog": ("blog", "mariadb", "nginx"),
    "jobs": ("redis", "worker"),
    "sensors": ("mosquitto", "python"),
    "monitoring": ("haproxy", "node-exporter", "prometheus", "python"),
}
TOOL = (sys.executable, "-m", "pycompose.compose.cli.main")


def main() -> int:
    """Build images, run the steps, print the table; 1 when a step failed."""
    names = sys.argv[1:] or list(APPLICATIONS)
    if wrong := [name for name in names if name not in APPLICATIONS]:
        print(f"no application {', '.join(wrong)}; there are: {' '.join(APPLICATIONS)}", file=sys.stderr)
        return 2
    images = sorted({image for name in names for image in APPLICATIONS[name]})
    if machine.MARK not in os.environ:
        done = subprocess.run([str(HERE / "build-images"), "--only-cache", *images])
        if done.returncode:
            return done.returncode
    machine.enter(["-m", "checks", *names])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    good = True
    with machine.node(TOOL) as folder:
        if subprocess.run([str(HERE / "build-images"), *images], stdout=subprocess.DEVNULL).returncode:
            return 1
        print(f"{'':<11}{'step':<9} {'':<6} {'time':>7}  what was seen", flush=True)
        for name in names:
            check = importlib.import_module(f"checks.{name}")
            user = User(TOOL, HERE / name, getattr(check, "FLAGS", ()))
            rows = steps.run(check, user, lambda: machine.holdings(TOOL, folder))
            for number, row in enumerate(rows):
                print(steps.line(row, first=not number), flush=True)
                good = good and row.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
