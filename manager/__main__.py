"""``python -m pycompose.manager``: the manager of a node; started by the node's supervisor.

Environment: PYCOMPOSE_STATE_DIR (default /var/lib/pycompose) has the store, PYCOMPOSE_RUN_DIR (default
/run/pycompose) the socket `api.sock`, which root and the group `pycompose` may use (root-equivalent).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from pycompose.manager.process import Process
from pycompose.manager.sealing import SealError
from pycompose.manager.store import StoreError

log = logging.getLogger("pycompose.manager")


async def serve(state: Path, run: Path) -> int:
    """Serve until SIGTERM; returns the exit status."""
    process = Process(state, run)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    return await process.run()


def main() -> None:
    """Run the manager."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    state = Path(os.environ.get("PYCOMPOSE_STATE_DIR") or "/var/lib/pycompose")
    run = Path(os.environ.get("PYCOMPOSE_RUN_DIR") or "/run/pycompose")
    try:
        sys.exit(asyncio.run(serve(state, run)))
    except (StoreError, SealError, OSError) as error:
        log.error("cannot start: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
