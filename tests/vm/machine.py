"""The node's tests in a virtual machine with Debian's kernel, systemd and cgroups of version 2; then power losses.

    python tests/vm/machine.py [--hybrid] [PYTEST ARGUMENT ...]

Without arguments: all that `TESTS` names on version 2, `HYBRID_TESTS` on version 1, and `powerloss`, on our runtime
alone (with PYCOMPOSE_SOAK=full on runc too). What the guest prints comes to standard output as it is printed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import guest
import powerloss

TESTS = [
    "tests/systemd",
    "tests/oci",
    *(f"tests/attacks/test_{name}.py" for name in ("start", "mounts", "rights", "escape_userns", "bridge")),
    "tests/node/test_runtime_containers.py",
    "tests/node/test_cgroup_v2.py",
    "tests/node/test_node.py",
    "tests/node/test_userns.py",
]
HYBRID_TESTS = ["tests/systemd"]
HOURS = 3


def pytest(arguments: list[str], cgroups: str) -> int:
    """Run tests in a guest; returns their exit status."""
    task = "python3 -m pytest -q --color=no -p no:cacheprovider --timeout 900 " + guest.words(arguments)
    place = guest.base()
    with tempfile.TemporaryDirectory(prefix="pycompose-vm-") as name:
        folder = Path(name)
        machine = guest.Guest(place, place / "root.ext4", guest.project(folder, task), folder, cgroups=cgroups)
        text = machine.run(HOURS * 3600, tell)
        found = guest.status(text)
        if found is None:
            tell(machine.console.read_text(errors="replace")[-3000:])
        return 1 if found is None else found


def tell(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run what is asked for, or all."""
    hybrid = arguments[:1] == ["--hybrid"]
    if arguments[hybrid:]:
        return pytest(arguments[hybrid:], guest.HYBRID if hybrid else guest.UNIFIED)
    full = os.environ.get("PYCOMPOSE_SOAK") == "full"
    # what runc does is `make test`'s question; an emulated machine is too slow to ask it twice
    ours = [] if full else ["-k", "not runc or trunc"]
    begun, failed = time.monotonic(), []
    for name, part in (
        ("version 2 of cgroups", lambda: pytest([*ours, *TESTS], guest.UNIFIED)),
        ("version 1 of cgroups", lambda: pytest([*ours, *HYBRID_TESTS], guest.HYBRID)),
        ("power losses", lambda: powerloss.main(["20" if full else "2"])),
    ):
        if part():
            failed.append(name)
        tell(f"{name}: {'failed' if name in failed else 'passed'}, {(time.monotonic() - begun) / 60:.0f} min\n")
        begun = time.monotonic()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
