"""A task's image: what the node has, or what is brought for it.

The command line pulls before it makes a service, with the user's accounts, and pins the service to an image's id: then
the node has it, or on a cluster another node does, and no registry is asked. A service that a program makes without a
pin gets its image from the registry by its policy, with the account that was given with the service, if any.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pycompose.proto.v1 import container_pb2, secret_pb2, task_pb2
from pycompose.worker.agent import machine
from pycompose.worker.agent.machine import Step
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.images import ImageError, platforms
from pycompose.worker.images.credentials import Credentials
from pycompose.worker.images.errors import DiskFull
from pycompose.worker.images.references import familiar, full, parse
from pycompose.worker.images.store import Image

if TYPE_CHECKING:
    from pycompose.worker.agent.runner import Runner


def image_of(runner: Runner) -> Image:
    """Return the image of a task, which is on the node. Raises SpecError, ImageError."""
    images, container = runner.agent.images, runner.spec.container
    image = images.find(container.image_digest or container.image)
    if image is None and container.image_digest and images.find(container.image) is not None:
        raise SpecError(
            f"the image that {container.image} meant when the service was last changed is not on this node any more; "
            "bring the service up again: pycompose up"
        )
    if image is None:
        raise SpecError(
            f"image {container.image} is not on this node; pull it (pycompose pull), load it (pycompose image load), "
            "or import it"
        )
    if container.platform and not platforms.same(platforms.parse(container.platform), platforms.of(image.config)):
        raise SpecError(
            f"image {container.image} is for {image.platform}, not {container.platform}; pull it for that platform"
        )
    return image


def wants_pull(container: container_pb2.ContainerSpec, image: Image | None, now_ns: int) -> bool:
    """Return whether the registry is asked before a container is made. Pure.

    Args:
        image: what the node has under the service's pin or name.
        now_ns: ns since the epoch.
    """
    if container.pull_policy == container_pb2.PULL_POLICY_NEVER:
        return False
    other = (
        container.platform
        and image is not None
        and not platforms.same(platforms.parse(container.platform), platforms.of(image.config))
    )
    if other:
        return not container.image_digest
    if image is None or container.image_digest:
        return image is None
    if container.pull_policy == container_pb2.PULL_POLICY_REFRESH:
        compared = image.named.get(familiar(full(container.image)), 0)
        return compared + container.pull_refresh_after.ToNanoseconds() <= now_ns
    return container.pull_policy == container_pb2.PULL_POLICY_ALWAYS


def account_for(account: secret_pb2.RegistryAccount | None, image: str) -> Credentials | None:
    """Return a service's account when it is for the image's registry: no other is shown it. Pure."""
    if account is None or parse(image).registry != account.registry:
        return None
    one = account.credentials
    return Credentials(one.username, one.password, one.identity_token)


async def provide(runner: Runner) -> bool:
    """Bring a task's image here; returns False when the task has to be looked at again instead.

    On a cluster the image that a service is pinned to comes from another node that has it; else, where the policy says
    so, from the registry.

    Raises:
        ImageError: it cannot be had.
    """
    agent, container = runner.agent, runner.spec.container
    image = agent.images.find(container.image_digest or container.image)
    pinned = container.image_digest if image is None and agent.membership.cluster_id else ""
    if not pinned and not wants_pull(container, image, time.time_ns()):
        return True
    runner.tell(task_pb2.TASK_STATE_PREPARING, f"pulling image {container.image}")
    bring = asyncio.create_task(_bring(runner, pinned))
    try:
        while not bring.done():
            woken = asyncio.create_task(runner.wake.wait())
            await asyncio.wait({bring, woken}, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            runner.wake.clear()
            step = machine.decide(runner.task, runner.spec.restart, runner.record, runner.running, time.time_ns())
            if step.step is not Step.CREATE:
                return False
        await bring
    finally:
        bring.cancel()
        await asyncio.gather(bring, return_exceptions=True)
    return True


async def _bring(runner: Runner, pinned: str) -> None:
    """Fetch an image from other nodes where the service is pinned to it, else pull it. Raises ImageError."""
    agent, container = runner.agent, runner.spec.container
    trouble: ImageError | None = None
    if pinned:
        try:
            if await agent.peering.fetch(pinned) is not None:
                return
        except DiskFull:
            raise
        except ImageError as error:
            trouble = error
    if wants_pull(container, None, time.time_ns()):
        try:
            account = account_for(agent.desired.accounts.get(runner.task.service_id), container.image)
            await agent.registries.pull(container.image, platform=container.platform, credentials=account)
        except ImageError as error:
            if not pinned:
                raise
            others = str(trouble) if trouble else "no other node has it"
            raise type(error)(f"{error}; and from the cluster's nodes: {others}") from error
    elif trouble is not None:
        raise trouble
