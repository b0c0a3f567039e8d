"""`container inspect`: a container in the shape of Docker's, so that what reads that reads ours.

Field names, types and forms are those of `docker container inspect` (Engine API 1.41, ContainerInspect). Our own
objects are below "Task" and "Service".
"""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.containers import get, service_of
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.objects import as_dict, inspect
from pycompose.compose.cli.settings import settings
from pycompose.compose.client import Client, NotThereError
from pycompose.compose.plan.progress import running
from pycompose.proto.v1 import (
    access_pb2,
    container_pb2,
    control_pb2,
    image_pb2,
    network_pb2,
    service_pb2,
    task_pb2,
)

NEVER = "0001-01-01T00:00:00Z"
_RESTARTS = {0: "no", 1: "no", 2: "on-failure", 3: "always", 4: "unless-stopped"}


@command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="CONTAINER...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
@click.option("-s", "--size", is_flag=True, help="Also how much it wrote.")
def inspect_(names: tuple[str, ...], form: str | None, size: bool) -> None:
    """Print containers as JSON."""
    with settings().client(start=False) as client:
        inspect(names, lambda name: description(client, get(client, name), size=size), form)


def description(client: Client, task: task_pb2.Task, *, size: bool = False) -> dict[str, Any]:
    """Return a container in Docker's shape."""
    service = service_of(client, task) or service_pb2.Service()
    spec = service.spec.task.container
    image = _image(client, task.status.image_digest or spec.image_digest or spec.image)
    networks = {one.id: one for one in client.control.ListNetworks(control_pb2.ListNetworksRequest()).networks}
    volumes = client.control.ListVolumes(control_pb2.ListVolumesRequest()).volumes
    places = {one.spec.name: place.mountpoint for one in volumes for place in one.locations}
    config = config_of(task, service, image)
    program = [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]
    found: dict[str, Any] = {
        "Id": task.id,
        "Created": _time(task.meta, "created_at"),
        "Path": program[0] if program else "",
        "Args": program[1:],
        "State": state_of(task),
        "Image": task.status.image_digest or spec.image_digest,
        "Name": f"/{task.name}",
        "RestartCount": task.status.restarts,
        "Driver": "overlay2",
        "Platform": (spec.platform or "linux").partition("/")[0],
        "HostConfig": host_config_of(service),
        "Mounts": [mount_of(mount, places) for mount in spec.mounts],
        "Config": config,
        "NetworkSettings": network_settings_of(task, service, networks, config["ExposedPorts"]),
    }
    if size:
        usage = client.access.MeasureTask(access_pb2.MeasureTaskRequest(task_id=task.id))
        found["SizeRw"], found["SizeRootFs"] = usage.written_bytes, usage.written_bytes + usage.image_bytes
    return {**found, "Task": as_dict(task), "Service": as_dict(service)}


def _image(client: Client, name: str) -> dict[str, Any]:
    try:
        text = client.images.InspectImage(image_pb2.InspectImageRequest(image=name)).json
    except NotThereError:
        return {}
    found = json.loads(text)
    return dict(found[0] if isinstance(found, list) else found)


def _time(message: Any, field: str) -> str:
    return str(getattr(message, field).ToJsonString()) if message.HasField(field) else NEVER


def state_of(task: task_pb2.Task) -> dict[str, Any]:
    """Return Docker's State."""
    status = task.status
    word = words.state(task)
    found: dict[str, Any] = {
        "Status": word,
        "Running": running(task),
        "Paused": status.paused,
        "Restarting": word == "restarting",
        "OOMKilled": status.oom_killed,
        "Dead": word == "dead",
        "Pid": status.pid,
        "ExitCode": status.exit_code,
        "Error": status.error,
        "StartedAt": _time(status, "started_at"),
        "FinishedAt": _time(status, "finished_at"),
    }
    health = words.health(task)
    if health:
        log = [{"ExitCode": int(health != "healthy"), "Output": status.health_output}] if status.health_output else []
        found["Health"] = {"Status": health, "FailingStreak": status.health_failures, "Log": log}
    return found


def config_of(task: task_pb2.Task, service: service_pb2.Service, image: dict[str, Any]) -> dict[str, Any]:
    """Return Docker's Config: the image's, as the spec changes it."""
    spec = service.spec.task.container
    base: dict[str, Any] = image.get("Config") or {}
    env = {word.partition("=")[0]: word for word in [*(base.get("Env") or ()), *spec.env]}
    replaced = spec.HasField("entrypoint")
    command_ = None if replaced else base.get("Cmd")
    exposed = {**(base.get("ExposedPorts") or {})}
    for port in service.spec.endpoint.ports:
        exposed[f"{port.target_port}/{words.PROTOCOLS[port.protocol]}"] = {}
    labels = {**(base.get("Labels") or {}), **spec.labels}
    if service.spec.project:
        labels["com.docker.compose.container-number"] = str(task.slot)
    grace = spec.stop_grace_period.ToSeconds() if spec.HasField("stop_grace_period") else None
    return {
        "Hostname": spec.hostname or task.id[:12],
        "Domainname": spec.domainname,
        "User": spec.user or base.get("User") or "",
        "AttachStdin": spec.open_stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "ExposedPorts": exposed,
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": False,
        "Env": list(env.values()),
        "Cmd": list(spec.command.args) if spec.HasField("command") else command_,
        "Healthcheck": _healthcheck(spec) or base.get("Healthcheck"),
        "Image": spec.image,
        "Volumes": {mount.target: {} for mount in spec.mounts if mount.type == container_pb2.MOUNT_TYPE_VOLUME}
        or base.get("Volumes"),
        "WorkingDir": spec.working_dir or base.get("WorkingDir") or "",
        "Entrypoint": list(spec.entrypoint.args) if replaced else base.get("Entrypoint"),
        "Labels": labels,
        "StopSignal": spec.stop_signal or base.get("StopSignal") or "SIGTERM",
        "StopTimeout": grace,
    }


def _healthcheck(spec: container_pb2.ContainerSpec) -> dict[str, Any] | None:
    check = spec.healthcheck
    if not check.test:
        return None
    times = {"Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period}
    return {"Test": list(check.test), **{k: v.ToNanoseconds() for k, v in times.items()}, "Retries": check.retries}


def host_config_of(service: service_pb2.Service) -> dict[str, Any]:
    """Return Docker's HostConfig."""
    task, spec = service.spec.task, service.spec.task.container
    limits, resources = spec.resources.limits, spec.resources
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in service.spec.endpoint.ports:
        key = f"{port.target_port}/{words.PROTOCOLS[port.protocol]}"
        public = str(port.published_port or "")
        bindings.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": public})
    networks = [one.network for one in task.networks]
    return {
        "Binds": [_bind(mount) for mount in spec.mounts if mount.type in (1, 2) and mount.source] or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": spec.logging.driver or "json-file", "Config": dict(spec.logging.options)},
        "NetworkMode": task.network_mode or (networks[0] if networks else "default"),
        "PortBindings": bindings,
        "RestartPolicy": {
            "Name": _RESTARTS[task.restart.condition],
            "MaximumRetryCount": task.restart.max_attempts,
        },
        "AutoRemove": service.spec.replicated_job.remove_when_done,
        "CapAdd": list(spec.cap_add) or None,
        "CapDrop": list(spec.cap_drop) or None,
        "CgroupnsMode": spec.cgroup_mode or "private",
        "Dns": list(spec.dns),
        "DnsOptions": list(spec.dns_options),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": list(spec.extra_hosts) or None,
        "GroupAdd": list(spec.groups) or None,
        "IpcMode": spec.ipc_mode or "private",
        "OomScoreAdj": spec.oom_score_adj,
        "PidMode": spec.pid_mode,
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": list(spec.security_opt) or None,
        "Tmpfs": {mount.target: "" for mount in spec.mounts if mount.type == container_pb2.MOUNT_TYPE_TMPFS},
        "UTSMode": spec.uts_mode,
        "UsernsMode": spec.userns_mode,
        "ShmSize": spec.shm_size_bytes or 64 << 20,
        "Sysctls": dict(spec.sysctls),
        "Runtime": spec.runtime or "pycompose",
        "Init": spec.init,
        "CpuShares": resources.cpu_shares,
        "Memory": limits.memory_bytes,
        "NanoCpus": limits.nano_cpus,
        "CgroupParent": spec.cgroup_parent,
        "BlkioWeight": resources.blkio_weight,
        "CpuPeriod": resources.cpu_period_us,
        "CpuQuota": resources.cpu_quota_us,
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "Devices": [
            {"PathOnHost": one.source, "PathInContainer": one.target, "CgroupPermissions": one.permissions}
            for one in spec.devices
        ],
        "DeviceCgroupRules": list(spec.device_cgroup_rules) or None,
        "MemoryReservation": resources.memory_reservation_bytes,
        "MemorySwap": resources.memory_swap_bytes,
        "MemorySwappiness": resources.memory_swappiness if resources.HasField("memory_swappiness") else None,
        "OomKillDisable": spec.oom_kill_disable,
        "PidsLimit": limits.pids or None,
        "Ulimits": [{"Name": one.name, "Hard": one.hard, "Soft": one.soft} for one in spec.ulimits],
    }


def _bind(mount: container_pb2.Mount) -> str:
    return f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"


def mount_of(mount: container_pb2.Mount, places: dict[str, str]) -> dict[str, Any]:
    """Return one of Docker's Mounts; `places` are mount points of volumes by name."""
    kind = {1: "bind", 2: "volume", 3: "tmpfs", 4: "image"}.get(mount.type, "")
    found: dict[str, Any] = {"Type": kind}
    if kind == "volume":
        found |= {"Name": mount.source, "Source": places.get(mount.source, ""), "Driver": "local"}
    else:
        found["Source"] = mount.source
    return {
        **found,
        "Destination": mount.target,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": (mount.propagation or "rprivate") if kind == "bind" else "",
    }


def network_settings_of(
    task: task_pb2.Task,
    service: service_pb2.Service,
    networks: dict[str, network_pb2.Network],
    exposed: dict[str, Any],
) -> dict[str, Any]:
    """Return Docker's NetworkSettings; `exposed` ports that are not published are there with null."""
    ports: dict[str, Any] = dict.fromkeys(exposed)
    if running(task):
        for address, public, target, protocol in words.published(service, task):
            binding = {"HostIp": address or "0.0.0.0", "HostPort": str(public)}
            ports[f"{target}/{protocol}"] = [*(ports.get(f"{target}/{protocol}") or ()), binding]
    wanted = {one.network: one for one in service.spec.task.networks}
    endpoints: dict[str, Any] = {}
    for one in task.attachments:
        network = networks.get(one.network_id)
        name = network.spec.name if network is not None else one.network_id
        address, _, length = one.address.partition("/")
        own = wanted.get(name, service_pb2.NetworkAttachmentSpec())
        fixed = {"IPv4Address": own.ipv4_address} if own.ipv4_address else None
        endpoints[name] = {
            "IPAMConfig": fixed,
            "Links": None,
            "Aliases": [*own.aliases, *one.aliases, task.id[:12]],
            "NetworkID": one.network_id,
            "EndpointID": "",
            "Gateway": _gateway(network, address),
            "IPAddress": address,
            "IPPrefixLen": int(length or 0),
            "IPv6Gateway": "",
            "GlobalIPv6Address": own.ipv6_address,
            "GlobalIPv6PrefixLen": 0,
            "MacAddress": one.mac_address,
            "DriverOpts": dict(own.driver_options) or None,
        }
    first: dict[str, Any] = next(iter(endpoints.values()), {})
    same = ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress")
    plain = {key: first.get(key, 0 if key == "IPPrefixLen" else "") for key in same}
    return {"Bridge": "", "SandboxID": task.id, "Ports": ports, **plain, "Networks": endpoints}


def _gateway(network: network_pb2.Network | None, address: str) -> str:
    for subnet in network.subnets if network is not None else ():
        block = ip_interface(subnet.subnet).network
        if address and ip_interface(address).ip in block:
            return subnet.gateway or str(next(iter(block.hosts())))
    return ""
