"""From a task's spec to a container that the runtime can start, and what has to be done anew before each start."""

from __future__ import annotations

import contextlib
import os
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.worker.agent import devices, files, ids, mounting, oci_config, resources
from pycompose.worker.agent.network_view import attachments_of
from pycompose.worker.agent.oci_config import SpecError, Surroundings
from pycompose.worker.agent.provision import image_of
from pycompose.worker.network.model import DnsOptions
from pycompose.worker.runtime import users
from pycompose.worker.runtime.client import LogOptions, Rootfs
from pycompose.worker.runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from pycompose.worker.agent.runner import Runner

_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
#: Docker's limits of its log drivers, in bytes and files; json-file has none there, and ours here.
_LOG_LIMITS = {"": (10_000_000, 3), "json-file": (10_000_000, 3), "local": (20_000_000, 5)}
SHM_BYTES = 64 * 1024 * 1024


async def prepare(runner: Runner) -> None:
    """Make the container, not started.

    Raises:
        SpecError, ImageError, NetworkError, VolumeError: this node cannot do what the spec says.
    """
    agent, container = runner.agent, runner.spec.container
    image = image_of(runner)
    runner.record.image_id = image.id
    settings: dict[str, Any] = dict(image.config.get("config") or {})
    snapshot = await agent.images.snapshot(runner.id, image.id)
    owners = await ids.provide(runner, _givers(runner))
    network_path = await _network(runner)
    try:
        who = container.user or settings.get("User") or ""
        user = users.resolve_in(who, (snapshot.upper, *snapshot.lower), container.groups)
    except RuntimeFault as error:
        raise SpecError(str(error)) from error
    mounts = await mounting.mounts_of(runner, settings, snapshot.lower, user)
    mounts += _own_files(runner) + await _shared_memory(runner)
    runner.renewed = True
    delegated = agent.around.controllers if agent.around else None
    most_pids = resources.most_pids() if delegated is None or "pids" in delegated else 0
    found = resources.resources_of(container, devices.block_number, most_pids)
    if delegated is not None:
        resources.refuse_limits(found, delegated)
    if agent.cgroup_version == 2:
        found, warnings = resources.without_version_1(found)
        for warning in warnings:
            runner.warn(warning)
    around = Surroundings(
        network_path=network_path,
        user=user,
        hostname=_hostname(runner),
        mounts=mounts,
        devices=devices.devices_of(container),
        device_rules=devices.rules_of(container),
        resources=found,
        cgroup_path=agent.cgroups.path(container, runner.id),
        mappings=owners.mappings() if owners else None,
        user_namespace=str(agent.user_namespaces.path(owners.of)) if owners else "",
    )
    config = oci_config.compose(runner.task, runner.spec, settings, around)
    rootfs = Rootfs(snapshot.lower, snapshot.upper, snapshot.work, container.read_only, idmap=owners is not None)
    await agent.runtime.create(runner.id, config, rootfs, log=log_options(runner), open_stdin=container.open_stdin)


async def renew(runner: Runner) -> dict[str, str]:
    """Do again what a reboot or another container's end takes away; returns namespaces to join, by kind.

    Raises:
        SpecError, VolumeError, NetworkError: something that was there is not any more.
    """
    container, agent = runner.spec.container, runner.agent
    agent.cgroups.ready(container)
    if not runner.renewed:
        await ids.provide(runner, _givers(runner))
        await _network(runner)
        if agent.informed.is_set():  # else those of the last start are there (Runner._may)
            _own_files(runner)
        await _shared_memory(runner)
        for name in runner.record.named_volumes:
            await agent.volumes.mounted(name, mounting.options_of(runner, name))
    runner.renewed = False
    joins = {}
    for kind, mode in (("pid", container.pid_mode), ("ipc", container.ipc_mode)):
        other = giver(runner, mode)
        if other is not None:
            joins[kind] = f"/proc/{other.record.pid}/ns/{kind}"
    return joins


def giver(runner: Runner, mode: str) -> Runner | None:
    """Return the container whose namespace is joined by "service:NAME" or "container:NAME". Raises SpecError."""
    if not mode.startswith(("service:", "container:")):
        return None
    other = runner.agent.neighbour(runner.task, mode)
    if other is None or not other.record.created:
        raise SpecError(f"{mode}: that container is not on this node")
    return other


def _givers(runner: Runner) -> list[Runner]:
    """Return the containers whose namespaces this one shares. Raises SpecError."""
    container = runner.spec.container
    found = [giver(runner, mode) for mode in (runner.spec.network_mode, container.pid_mode, container.ipc_mode)]
    return [one for one in found if one is not None]


def waits_for(runner: Runner) -> str:
    """Return the name of a container that must run before this one can join its namespaces; "" when all do."""
    container = runner.spec.container
    for mode in (container.pid_mode, container.ipc_mode):
        with contextlib.suppress(SpecError):
            other = giver(runner, mode)
            if other is not None and not other.running:
                return str(other.task.name)
    return ""


def _hostname(runner: Runner) -> str:
    container = runner.spec.container
    machines = container.uts_mode == "host" or runner.spec.network_mode == "host"
    return container.hostname or (runner.agent.hostname if machines else runner.id[:12])


def _own_files(runner: Runner) -> list[dict[str, Any]]:
    """Write hosts, secrets and the like: before each start, since a reboot takes what lies on a tmpfs."""
    agent, container, mode = runner.agent, runner.spec.container, runner.spec.network_mode
    owners = ids.range_of(runner)
    if mode.startswith(("service:", "container:")):
        other = giver(runner, mode)
        assert other is not None
        mounts = files.etc_binds(other.volatile, read_only=container.read_only)
    else:
        mounts = files.etc_mounts(runner.volatile, runner.spec, _hostname(runner), _etc(runner), owners)
    mounts += files.secret_mounts(runner.volatile, container, agent.desired.secrets, owners)
    return mounts + files.config_mounts(runner.volatile, container, agent.desired.configs, owners)


def _etc(runner: Runner) -> files.Etc:
    agent = runner.agent
    texts = [text for one in runner.task.attachments for text in (one.address, one.ipv6_address) if text]
    addresses = [ip_interface(text).ip for text in texts]
    networks = [one.network_id for one in runner.task.attachments]
    return files.Etc(
        addresses=tuple(addresses),
        host_gateway=agent.network.machine_address(networks),
        hosts=_read("/etc/hosts"),
        servers=agent.servers,
        search=agent.search,
    )


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""


async def _network(runner: Runner) -> str | None:
    mode = runner.spec.network_mode
    if mode == "host":
        return None
    if mode.startswith(("service:", "container:")):
        other = giver(runner, mode)
        assert other is not None
        return await _network(other)
    container = runner.spec.container
    dns = DnsOptions(tuple(container.dns), tuple(container.dns_search), aliases=tuple(container.links.items()))
    attachments = () if mode == "none" else attachments_of(runner.task, runner.spec, runner.agent.desired.networks)
    guest = any(
        line.partition(":")[2] == "host-gateway" for line in (one.replace("=", ":", 1) for one in container.extra_hosts)
    )
    agent = runner.agent
    given = agent.user_namespaces.network(runner.id)
    path = await agent.network.attach(runner.id, attachments, dns, guest=guest, given=given)
    agent.user_namespaces.plugged(runner.id)
    return str(path)


async def _shared_memory(runner: Runner) -> list[dict[str, Any]]:
    """Return mounts of /dev/shm and /dev/mqueue where the container has others than its own."""
    container, agent = runner.spec.container, runner.agent
    mode = container.ipc_mode
    if mode == "host":
        places = [name for name in ("/dev/shm", "/dev/mqueue") if os.path.ismount(name)]
        return [files.bind(name, name, "rprivate") for name in places]
    if mode == "shareable":
        path = await agent.shared_memory.make(runner.id, container.shm_size_bytes or SHM_BYTES)
        return [files.bind(path, "/dev/shm", "rprivate")]
    other = giver(runner, mode)
    if other is None:
        return []
    if other.spec.container.ipc_mode != "shareable":
        raise SpecError(f"ipc {mode}: that container shares nothing; give it ipc: shareable")
    return [files.bind(agent.shared_memory.path(other.id), "/dev/shm", "rprivate")]


def log_options(runner: Runner) -> LogOptions | None:
    """Return where output goes; None: nowhere."""
    logging = runner.spec.container.logging
    if logging.driver == "none":
        return None
    most, count = _LOG_LIMITS[logging.driver]
    size = logging.options.get("max-size", "")
    if size:
        most = 0 if size.startswith("-") else log_bytes(size)
    files_kept = logging.options.get("max-file", "")
    return LogOptions(runner.log_path, most, max(1, int(files_kept)) if files_kept.isdigit() else count)


def log_bytes(text: str) -> int:
    """Return the bytes of "10m" or "1.5gb", by powers of 1000 as Docker's log drivers count. Pure."""
    digits = text.lower().rstrip("b").rstrip("kmg")
    return int(float(digits) * _UNITS[text.lower()[len(digits) :].rstrip("b")])
