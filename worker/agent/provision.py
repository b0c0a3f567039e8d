"""A task's image: what the node has, or what is pulled for it by its policy, without credentials.

The command line pulls before it makes a service, with the user's accounts, and pins the service to an image's id: then
nothing is asked here. A service that a program makes without a pin gets its image by this.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pycompose.proto.v1 import container_pb2, task_pb2
from pycompose.worker.agent import machine
from pycompose.worker.agent.machine import Step
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.images import platforms
from pycompose.worker.images.references import familiar, full
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


async def provide(runner: Runner) -> bool:
    """Pull a task's image where its policy says so; returns False when the task has to be looked at again instead.

    Raises:
        ImageError: it cannot be pulled.
    """
    agent, container = runner.agent, runner.spec.container
    image = agent.images.find(container.image_digest or container.image)
    if not wants_pull(container, image, time.time_ns()):
        return True
    runner.tell(task_pb2.TASK_STATE_PREPARING, f"pulling image {container.image}")
    pull = asyncio.create_task(agent.registries.pull(container.image, platform=container.platform))
    try:
        while not pull.done():
            woken = asyncio.create_task(runner.wake.wait())
            await asyncio.wait({pull, woken}, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            runner.wake.clear()
            step = machine.decide(runner.task, runner.spec.restart, runner.record, runner.running, time.time_ns())
            if step.step is not Step.CREATE:
                return False
        await pull
    finally:
        pull.cancel()
        await asyncio.gather(pull, return_exceptions=True)
    return True
