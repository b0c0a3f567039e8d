"""``python -m pycompose.manager``: the manager of a node; started by the node's supervisor.

Environment: PYCOMPOSE_STATE_DIR (default /var/lib/pycompose) has the store, PYCOMPOSE_RUN_DIR (default
/run/pycompose) the socket `api.sock`, which root and the group `pycompose` may use (root-equivalent).
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pycompose.manager.allocator import Pools
from pycompose.manager.cache import Cache
from pycompose.manager.control import Api, add_control, add_proxies
from pycompose.manager.dispatcher import Absence, Dispatcher, add_dispatcher
from pycompose.manager.engine import Engine
from pycompose.manager.leadership import AlwaysLeader
from pycompose.manager.model import Codec
from pycompose.manager.sealing import Sealer, SealError
from pycompose.manager.store import StoreError, StoreFullError, TooManyOperationsError
from pycompose.manager.store.sqlite import SqliteStore
from pycompose.proto.guard import Guard
from pycompose.proto.refusal import ExhaustedError, Refusal, UnreachableError
from pycompose.proto.serving import listen, new_server
from pycompose.proto.v1 import access_pb2, control_pb2, dispatcher_pb2, image_pb2

log = logging.getLogger("pycompose.manager")
#: With the files that declare them: reflection finds what is loaded.
SERVICES = {
    f"pycompose.v1.{name}": file.DESCRIPTOR
    for file in (control_pb2, dispatcher_pb2, access_pb2, image_pb2)
    for name in file.DESCRIPTOR.services_by_name
}
GROUP = "pycompose"


def api_group() -> int | None:
    """Return the number of the group that may use the API; None: there is no such group, and root is alone."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def translate(error: Exception) -> Refusal | None:
    """Return how clients hear of the store's errors."""
    if isinstance(error, StoreFullError):
        return ExhaustedError(str(error), "disk")
    if isinstance(error, TooManyOperationsError):
        return ExhaustedError(f"the request changes too many objects at once ({error}); split it", "operations")
    if isinstance(error, StoreError):
        return UnreachableError(str(error))
    return None


async def serve(state: Path, run: Path) -> int:
    """Serve until SIGTERM; returns the exit status."""
    folder = state / "manager"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    run.mkdir(parents=True, exist_ok=True, mode=0o755)
    codec = Codec(Sealer.from_file(folder / "key"))
    store = await SqliteStore.open(folder / "store.db")
    cache = Cache(store, codec)
    await cache.load()
    dispatcher = Dispatcher(store, cache, codec)
    server = new_server(Guard("the manager's log", translate))
    add_control(server, Api(store, cache, codec))
    add_dispatcher(server, dispatcher)
    proxy = add_proxies(server, f"unix:{run}/worker.sock")
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = list(SERVICES)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    path = run / "api.sock"
    await listen(server, path, api_group())
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    leadership = AlwaysLeader()
    engine = Engine(store, cache, codec, leadership, Pools())
    loops: list[Coroutine[Any, Any, Any]] = [
        cache.follow(),
        engine.run(),
        dispatcher.run(),
        Absence(store, cache, codec, leadership, dispatcher.me, time.time).run(),
        stopping.wait(),
    ]
    tasks = [asyncio.create_task(item) for item in loops]
    for name in ("", *names):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("serving on %s", path)
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    failed = next((task.exception() for task in done if task.exception()), None)
    await server.stop(0.5)
    await proxy.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
    path.unlink(missing_ok=True)
    if failed is not None:
        log.error("a loop ended: %s: %s; starting anew", type(failed).__name__, failed)
        return 1
    return 0


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
