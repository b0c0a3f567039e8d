"""``python -m pycompose.worker.agent``: the worker of a node; started by the node's supervisor.

Environment: PYCOMPOSE_STATE_DIR, PYCOMPOSE_RUN_DIR as everywhere; PYCOMPOSE_CGROUP_PARENT (default /pycompose,
for an ordinary user none) and
PYCOMPOSE_INSTANCE (up to 3 characters in links' names) for a second node on one machine. --node-started is the
supervisor's word that the whole node starts, not this process alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from pycompose.worker.access import serve
from pycompose.worker.agent.agent import Agent
from pycompose.worker.agent.membership import Membership
from pycompose.worker.runtime import owning

MEMBERSHIP_SECONDS = 1.0


async def run() -> None:
    """Serve until SIGTERM."""
    state = Path(os.environ.get("PYCOMPOSE_STATE_DIR") or "/var/lib/pycompose")
    run_dir = Path(os.environ.get("PYCOMPOSE_RUN_DIR") or "/run/pycompose")
    parent = os.environ.get("PYCOMPOSE_CGROUP_PARENT") or ("/pycompose" if owning.machines_root() else "")
    agent = Agent(state, run_dir, parent, os.environ.get("PYCOMPOSE_INSTANCE", ""))
    agent.node_started = "--node-started" in sys.argv
    servers = await serve(run_dir / "worker.sock", agent)
    work = asyncio.create_task(agent.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    watch = asyncio.create_task(_until_another(state, agent.membership, agent.moved, work))
    with contextlib.suppress(asyncio.CancelledError):
        await work
    watch.cancel()
    for server in servers:
        await server.stop(0.2)


async def _until_another(state: Path, before: Membership, moved: asyncio.Event, work: asyncio.Task[None]) -> None:
    """End the agent when the node joined or left a cluster: the supervisor starts it anew; containers go on.

    `moved` is set when this process itself did it.
    """
    while Membership.load(state) == before:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(moved.wait(), MEMBERSHIP_SECONDS)
    logging.getLogger(__name__).info("the node's place in a cluster is another now: starting anew")
    work.cancel()


def main() -> None:
    """Run the agent."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    asyncio.run(run())


if __name__ == "__main__":
    main()
