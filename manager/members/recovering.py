"""A manager whose majority is lost for good goes on alone, with what it has: ``cluster recover --force-new-cluster``.

Its etcd starts once as a cluster of one (https://etcd.io/docs/v3.4/op-guide/recovery/). The order is: member.alone.json
is written, which is the decision; the member ends, and starts anew by that file; the store gets another epoch, since
the managers that are given up may have had revisions that this one lacks; their nodes' rows go; then the file says no
more that the member is alone, so that its next start is an ordinary one. Each step can be done again, and is, by the
manager's next life, when it was cut short.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path

from pycompose.manager.backend import Backend
from pycompose.manager.dispatcher.sessions import session_key
from pycompose.manager.member import FILE, Settings
from pycompose.manager.members import fellows
from pycompose.manager.members.fellows import Fellow
from pycompose.manager.model import NODE, object_key
from pycompose.manager.moving import stopped
from pycompose.manager.store import Delete, StoreUnavailableError
from pycompose.manager.store.etcd import EtcdStore
from pycompose.proto.files import replace as replace_file
from pycompose.proto.files import sync_folder
from pycompose.proto.refusal import BlockedError

log = logging.getLogger(__name__)
ALONE = "member.alone.json"
ANSWER_SECONDS = 3.0


async def others(folder: Path) -> list[Fellow]:
    """Return the managers that would be given up.

    Raises:
        BlockedError: there is nothing to recover: this manager has no others, or a majority answers.
    """
    backend = Backend.load(folder)
    if backend.store != "etcd":
        raise BlockedError("this manager has no others; there is nothing to recover", "ALONE")
    found = [each for each in fellows.load(folder) if each.name != backend.name]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await (await backend.open(folder)).close()
    except (StoreUnavailableError, TimeoutError):
        return found
    raise BlockedError(
        "a majority of the managers answers; there is nothing to recover. Managers that are gone are removed by "
        "pycompose node rm",
        "MAJORITY",
    )


def decide(folder: Path) -> None:
    """Give the others up; the manager's next life does it. Raises StoreError, OSError."""
    settings = Settings.load(folder)
    made = replace(settings, members={settings.name: settings.peer}, joins=False, alone=True)
    replace_file(folder / ALONE, json.dumps(vars(made), indent=1).encode())


async def begin(folder: Path) -> None:
    """Have the member start as a cluster of one, where that was decided. Raises StoreError, OSError."""
    path = folder / ALONE
    if not path.exists():
        return
    settings = Settings(**json.loads(path.read_text()))
    (folder / FILE).unlink(missing_ok=True)
    await stopped(settings.client)
    path.rename(folder / FILE)
    sync_folder(folder)


async def finish(folder: Path, store: EtcdStore) -> None:
    """Make a cluster of one of what the member has, where it was started so. Raises StoreError, OSError."""
    settings = Settings.load(folder)
    if not settings.alone:
        return
    await store.renew_epoch()
    given_up = [each.name for each in fellows.load(folder) if each.name != settings.name]
    for name in given_up:
        await store.transact([], [Delete(object_key(NODE, name)), Delete(session_key(name))])
    fellows.save(folder, [each for each in fellows.load(folder) if each.name == settings.name])
    replace(settings, alone=False).save(folder)
    log.warning("this manager goes on alone; given up: %s", ", ".join(given_up) or "none")
