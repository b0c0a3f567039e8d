"""Entry point: seals the interpreter before a container is entered, and before the rest is imported twice."""

from __future__ import annotations

import sys

from pycompose.worker.runtime import sealing

ENTERING = {"create", "run", "exec"}


def main() -> int:
    """Run the command line; returns the exit status."""
    if ENTERING & set(sys.argv[1:]):
        sealing.seal()
    from pycompose.worker.runtime.command.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
