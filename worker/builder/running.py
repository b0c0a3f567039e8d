"""RUN: a command in a container of its own over the files so far, confined as every container is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.proto.v1 import container_pb2, service_pb2, task_pb2
from pycompose.worker.agent import devices, oci_config, resources
from pycompose.worker.agent import files as own_files
from pycompose.worker.agent.files import bind
from pycompose.worker.agent.oci_config import SpecError, Surroundings
from pycompose.worker.builder.errors import BuildError
from pycompose.worker.builder.evaluation import RunOperation
from pycompose.worker.builder.instructions import Mount
from pycompose.worker.images.snapshots import Snapshot
from pycompose.worker.network import routes
from pycompose.worker.network.errors import NetworkError
from pycompose.worker.network.model import Attachment, NetworkSpec
from pycompose.worker.runtime import logs, users
from pycompose.worker.runtime.client import LogOptions, Rootfs
from pycompose.worker.runtime.errors import RuntimeFault, StartError

if TYPE_CHECKING:
    from pycompose.worker.agent.agent import Agent

NETWORK = "build"
#: Outside of what managers give to networks.
_SUBNETS = [IPv4Network(f"10.127.{number}.0/24") for number in range(255, 0, -1)]
_SCRIPT = "/dev/.build-script"
#: Output that is kept of a command: far more than anybody reads, and no more than a disk can bear.
LOG_BYTES = 512 << 20
Output = Callable[[bytes], None]


@dataclass(frozen=True)
class RunSettings:
    """What the build says of all its commands; as of BuildStart."""

    network: str = ""
    extra_hosts: Sequence[str] = ()
    shm_size_bytes: int = 0
    ulimits: Sequence[str] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    entitlements: Sequence[str] = ()


class Runs:
    """Runs commands of builds on one node.

    Args:
        agent: the node's.
        folder: where cache mounts are kept.
    """

    def __init__(self, agent: Agent, folder: Path) -> None:
        self._agent, self._folder = agent, folder
        self._locks: dict[str, asyncio.Lock] = {}
        self._busy: dict[str, int] = {}
        self._addresses: set[IPv4Interface] = set()
        self._networked = asyncio.Lock()
        self._users = 0

    async def run(
        self,
        container_id: str,
        operation: RunOperation,
        snapshot: Snapshot,
        bound: Sequence[dict[str, Any]],
        settings: RunSettings,
        output: Output,
    ) -> tuple[int, list[str]]:
        """Run a command; returns its exit status, and the paths at which something was mounted.

        Args:
            container_id: of the container, new.
            snapshot: the files so far, and where changes go.
            bound: OCI mounts of the files that its bind mounts show.
            settings: of the build.
            output: takes what it writes.

        Raises:
            BuildError: it cannot be run.
        """
        home = self._agent.run_dir / "build" / container_id
        home.mkdir(parents=True, mode=0o700)
        try:
            async with contextlib.AsyncExitStack() as stack:
                mounts = [
                    *bound,
                    *[mount for one in operation.mounts for mount in await self._own(one, home, settings, stack)],
                ]
                path = await self._network(container_id, operation, settings, stack)
                config = self._config(container_id, operation, snapshot, mounts, settings, home, path)
                log_path = home / "log.json"
                rootfs = Rootfs(snapshot.lower, snapshot.upper, snapshot.work)
                options = LogOptions(log_path, LOG_BYTES, 1)
                await self._agent.runtime.create(container_id, config, rootfs, log=options)
                stack.push_async_callback(self._agent.runtime.delete, container_id, force=True)
                code = await self._follow(container_id, log_path, output)
            return code, [str(mount["destination"]) for mount in config["mounts"]]
        except (SpecError, NetworkError, RuntimeFault) as error:
            raise BuildError(str(error)) from error
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, home, True))

    async def _follow(self, container_id: str, log_path: Path, output: Output) -> int:
        try:
            await self._agent.runtime.start(container_id)
        except StartError as error:
            output(f"{error}\n".encode())
            return error.exit_code
        ending = asyncio.create_task(self._agent.runtime.wait(container_id))
        try:
            reader = logs.Reader(log_path, logs.Span(follow=True), ending.done)
            async for batch in logs.merged([("", reader)]):
                output(b"".join(data for _, (_, _, data) in batch))
            status = await ending
        finally:
            ending.cancel()
        if status.oom_killed:
            output(b"killed: out of memory\n")
        return status.code

    def _config(
        self,
        container_id: str,
        operation: RunOperation,
        snapshot: Snapshot,
        mounts: Sequence[dict[str, Any]],
        settings: RunSettings,
        home: Path,
        network_path: str | None,
    ) -> dict[str, Any]:
        agent = self._agent
        environment = dict(operation.environment) | dict(operation.hidden) | _secret_variables(operation, settings)
        arguments = list(operation.arguments) or [_SCRIPT]
        more = list(mounts)
        if operation.script:
            script = home / "script"
            script.write_text(operation.script)
            script.chmod(0o755)
            more.append(bind(script, _SCRIPT, "ro"))
        container = container_pb2.ContainerSpec(
            entrypoint=container_pb2.Command(args=arguments),
            env=[f"{name}={value}" for name, value in environment.items()],
            working_dir=operation.folder,
            shm_size_bytes=settings.shm_size_bytes,
            extra_hosts=settings.extra_hosts,
            privileged=operation.security == "insecure",
            ulimits=[_ulimit(text) for text in settings.ulimits],
        )
        mode = self._mode(operation, settings)
        spec = service_pb2.TaskSpec(container=container, network_mode=mode)
        user = users.resolve_in(operation.user, (snapshot.upper, *snapshot.lower))
        hostname = "buildkitsandbox"
        around = own_files.Etc(servers=agent.servers, search=agent.search, hosts=_read("/etc/hosts"))
        more += own_files.etc_mounts(home, spec, hostname, around)
        limited = agent.around is None
        found = resources.resources_of(container, devices.block_number, resources.most_pids() if limited else 0)
        if agent.cgroup_version == 2:
            found, _ = resources.without_version_1(found)
        surroundings = Surroundings(
            network_path=network_path,
            user=user,
            hostname=hostname,
            mounts=more,
            resources=found,
            cgroup_path=agent.cgroups.path(container, container_id),
        )
        return oci_config.compose(task_pb2.Task(id=container_id), spec, {}, surroundings)

    @staticmethod
    def _mode(operation: RunOperation, settings: RunSettings) -> str:
        wanted = operation.network if operation.network != "default" else settings.network or "default"
        if wanted == "host" and operation.network == "host" and "network.host" not in settings.entitlements:
            raise BuildError("RUN --network=host needs to be allowed: pycompose build --allow network.host")
        if operation.security == "insecure" and "security.insecure" not in settings.entitlements:
            raise BuildError("RUN --security=insecure needs to be allowed: pycompose build --allow security.insecure")
        return "" if wanted == "default" else wanted

    # Networks.

    async def _network(
        self, container_id: str, operation: RunOperation, settings: RunSettings, stack: contextlib.AsyncExitStack
    ) -> str | None:
        mode = self._mode(operation, settings)
        if mode == "host":
            return None
        attachments: tuple[Attachment, ...] = ()
        if mode != "none":
            network = await stack.enter_async_context(self._builders())
            address = next(
                one
                for host in list(network.subnet.hosts())[1:]
                if (one := IPv4Interface(f"{host}/{network.subnet.prefixlen}")) not in self._addresses
            )
            self._addresses.add(address)
            stack.callback(self._addresses.discard, address)
            attachments = (Attachment(network.id, address),)
        path = await self._agent.network.attach(container_id, attachments)
        stack.push_async_callback(self._agent.network.detach, container_id)
        return str(path)

    @contextlib.asynccontextmanager
    async def _builders(self) -> AsyncIterator[NetworkSpec]:
        """The network of commands, there while one runs."""
        agent = self._agent
        async with self._networked:
            self._users += 1
            if agent.build_network is None:
                subnet = _free([*map(IPv4Network, routes.of_machine(()))])
                agent.build_network = NetworkSpec(NETWORK, NETWORK, subnet, next(subnet.hosts()))
                await agent.apply_networks()
        try:
            yield agent.build_network
        finally:
            async with self._networked:
                self._users -= 1
                if not self._users:
                    agent.build_network = None
                    await agent.apply_networks()

    # Mounts.

    async def _own(
        self, mount: Mount, home: Path, settings: RunSettings, stack: contextlib.AsyncExitStack
    ) -> list[dict[str, Any]]:
        """Return a mount that shows nothing of the build's own files."""
        match mount.kind:
            case "tmpfs":
                options = ["nosuid", "nodev", "mode=1777", *([f"size={mount.size}"] if mount.size else [])]
                return [{"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}]
            case "secret":
                return self._secret(mount, home, settings)
            case "cache":
                return [await self._cached(mount, stack)]
            case "ssh":
                if mount.required:
                    raise BuildError("RUN --mount=type=ssh: no agent can be forwarded yet; use a secret")
        return []

    @staticmethod
    def _secret(mount: Mount, home: Path, settings: RunSettings) -> list[dict[str, Any]]:
        name = mount.id or os.path.basename(mount.target)
        if name not in settings.secrets:
            if mount.required:
                raise BuildError(f"the secret {name} is required; give it: pycompose build --secret id={name},src=FILE")
            return []
        if mount.variable and not mount.target:
            return []
        path = home / f"secret-{hashlib.sha256(f'{name}{mount.target}'.encode()).hexdigest()[:12]}"
        own_files.write_file(path, settings.secrets[name], (mount.uid or 0, mount.gid or 0), mount.mode or 0o400)
        return [bind(path, mount.target or f"/run/secrets/{name}", "ro")]

    async def _cached(self, mount: Mount, stack: contextlib.AsyncExitStack) -> dict[str, Any]:
        if mount.origin:
            raise BuildError("RUN --mount=type=cache,from=…: a cache begins empty here; leave from out")
        name = hashlib.sha256((mount.id or mount.target).encode()).hexdigest()[:32]
        if mount.sharing == "locked":
            await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
        elif mount.sharing == "private":
            name = next(one for number in range(1 << 20) if not self._busy.get(one := f"{name}-{number}"))
        self._busy[name] = self._busy.get(name, 0) + 1
        stack.callback(self._free, name)
        path = self._folder / name
        if not path.is_dir():
            path.mkdir(parents=True)
            os.chown(path, mount.uid or 0, mount.gid or 0)
            path.chmod(mount.mode if mount.mode is not None else 0o755)
        return bind(path, mount.target, "rprivate", *(["ro"] if mount.read_only else []))

    def _free(self, name: str) -> None:
        self._busy[name] -= 1


def _secret_variables(operation: RunOperation, settings: RunSettings) -> dict[str, str]:
    return {
        mount.variable: settings.secrets[mount.id].decode("utf-8", "replace")
        for mount in operation.mounts
        if mount.kind == "secret" and mount.variable and mount.id in settings.secrets
    }


def _free(taken: Sequence[IPv4Network]) -> IPv4Network:
    for subnet in _SUBNETS:
        if not any(subnet.overlaps(one) for one in taken):
            return subnet
    raise BuildError("no subnet of 10.127.0.0/16 is free for builds; use --network host or none")


def _ulimit(text: str) -> container_pb2.Ulimit:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return container_pb2.Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError:
        raise BuildError(f"ulimit {text!r}: write NAME=SOFT[:HARD]") from None


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""


def mounts_of_kind(operation: RunOperation, kind: str) -> Iterator[Mount]:
    """Yield an operation's mounts of a kind."""
    return (mount for mount in operation.mounts if mount.kind == kind)
