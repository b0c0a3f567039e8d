"""Programs beside a container's own: what exec, health checks and lifecycle hooks have in common; and the hooks.

Hooks run one after another inside the container, post_start once it runs and pre_stop before its stop signal
(Compose specification, 05-services.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pycompose.proto.v1 import container_pb2
from pycompose.worker.runtime import capabilities, oci, users
from pycompose.worker.runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from pycompose.worker.agent.runner import Runner

LONGEST = 3600.0
SAID = 500


def process(
    runner: Runner,
    arguments: Sequence[str],
    *,
    env: Iterable[str] = (),
    user: str = "",
    working_dir: str = "",
    privileged: bool = False,
    tty: bool = False,
) -> dict[str, Any]:
    """Return an OCI process beside the container's own; what is not given is as the container's.

    Raises:
        RuntimeFault: the container has no such user.
    """
    found = {**runner.process(list(arguments)), "terminal": tty}
    found["env"] = [*found["env"], *env]
    if tty and not any(item.startswith("TERM=") for item in found["env"]):
        found["env"].append("TERM=xterm")
    if working_dir:
        found["cwd"] = working_dir
    if user:
        agent = runner.agent
        upper = agent.state / "images" / "snapshots" / runner.id / "upper"
        known = users.resolve_in(user, (upper, *agent.images.layers(runner.record.image_id)))
        found["user"] = known.as_process_user()
    if privileged:
        found["capabilities"] = oci.capabilities(capabilities.held())
    return found


async def run(runner: Runner, kind: str, hooks: Iterable[container_pb2.Hook]) -> str:
    """Run hooks one after another; return why one failed, "" when all did well.

    Args:
        kind: "post_start" or "pre_stop", for the message.
    """
    for hook in hooks:
        words = " ".join(hook.command)
        try:
            wanted = process(
                runner,
                hook.command,
                env=hook.env,
                user=hook.user,
                working_dir=hook.working_dir,
                privileged=hook.privileged,
            )
        except RuntimeFault as error:
            return f"{kind} {words}: {error}"
        code, output = await runner.probe(wanted, LONGEST)
        if code != 0:
            said = output.strip()[-SAID:]
            return f"{kind} {words}: exit status {code}" + (f": {said}" if said else "")
    return ""
