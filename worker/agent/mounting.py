"""What the user of a container mounts: binds, volumes, tmpfs, images, and other containers' volumes.

The answers are OCI mounts (runtime-spec config.md, "Mounts"), with the runtime's key ``subpath`` (``runtime.root``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycompose.proto.v1 import container_pb2 as pb
from pycompose.proto.v1 import task_pb2
from pycompose.worker.agent import ids
from pycompose.worker.agent.files import bind
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.runtime import idmap, mount_table
from pycompose.worker.runtime.users import User

if TYPE_CHECKING:
    from pycompose.worker.agent.runner import Runner

OciMount = dict[str, Any]
SELINUX = Path("/sys/fs/selinux/enforce")


async def mounts_of(runner: Runner, settings: dict[str, Any], lower: Sequence[Path], user: User) -> list[OciMount]:
    """Return the mounts of a task's own, and note in its record what they use.

    Args:
        runner: the task's.
        settings: the image's ``config``.
        lower: its layers, topmost first.
        user: who runs the program.

    Raises:
        SpecError: a source is missing, or cannot be mounted as asked.
        VolumeError: a volume cannot be mounted or filled.
    """
    wanted = list(runner.spec.container.mounts)
    taken = {mount.target.rstrip("/") for mount in wanted}
    found = [await _one(runner, mount, number, lower, user) for number, mount in enumerate(wanted)]
    for other in _others(runner):
        if other["destination"].rstrip("/") not in taken:
            taken.add(other["destination"].rstrip("/"))
            found.append(other)
    declared = [target for target in settings.get("Volumes") or {} if target.rstrip("/") not in taken]
    for number, target in enumerate(declared, start=len(wanted)):
        anonymous = pb.Mount(type=pb.MOUNT_TYPE_VOLUME, target=target)
        found.append(await _volume(runner, anonymous, number, lower))
    runner.record.data_mounts = [mount for mount in found if mount["type"] == "bind" and "image" not in mount]
    return found


async def _one(runner: Runner, mount: pb.Mount, number: int, lower: Sequence[Path], user: User) -> OciMount:
    match mount.type:
        case pb.MOUNT_TYPE_BIND:
            return _bind(runner, mount, user)
        case pb.MOUNT_TYPE_TMPFS:
            return _tmpfs(mount)
        case pb.MOUNT_TYPE_IMAGE:
            return _image(runner, mount)
        case _:
            return await _volume(runner, mount, number, lower)


def _bind(runner: Runner, mount: pb.Mount, user: User) -> OciMount:
    source = Path(mount.source)
    caller = [int(number) for number in mount.idmap.split(":")] if mount.idmap else []
    if not source.exists():
        _make_source(source, mount, caller)
    propagation = mount.propagation or "rprivate"
    _check_propagation(source, propagation)
    options = ["bind" if mount.recursive == "disabled" else "rbind", propagation]
    if mount.read_only:
        # what is mounted below the source is read-only too, unless the spec says otherwise (as Docker since 25)
        options.append("ro" if mount.recursive in ("writable", "disabled") else "rro")
    found: OciMount = {"destination": mount.target, "type": "bind", "source": str(source), "options": options}
    if caller:
        found["pairs"] = [[caller[0], user.uid], [caller[1], user.gid]]
        found = _as_container(found, ids.range_of(runner))
    if mount.selinux and SELINUX.exists():
        runner.warn(f"bind {mount.target}: SELinux labels are not set; run chcon -Rt container_file_t {source}")
    return found


def _as_container(mount: OciMount, owners: ids.Range | None) -> OciMount:
    """Return a mount that shows its owners as a container sees its own ids.

    Of a volume ("volume") all ids are the container's, of a bind with x-idmap ("pairs") one user and one group. With
    no other ids in a user namespace, its root cannot leave a file behind that belongs to another user of the machine.
    """
    found = {key: value for key, value in mount.items() if key not in ("uidMappings", "gidMappings")}
    options = [option for option in mount["options"] if option != "ridmap"]
    if "pairs" in mount:
        (uid, inner), (gid, group) = mount["pairs"]
        if owners is None:
            found["uidMappings"], found["gidMappings"] = idmap.swap(uid, inner), idmap.swap(gid, group)
        else:
            outer, outer_group = owners.outside(inner, group)
            found["uidMappings"] = [{"containerID": uid, "hostID": outer, "size": 1}]
            found["gidMappings"] = [{"containerID": gid, "hostID": outer_group, "size": 1}]
        options.append("ridmap")
    elif "volume" in mount and owners is not None:
        options.append("ridmap")
    return found | {"options": options}


def _make_source(source: Path, mount: pb.Mount, owner: list[int]) -> None:
    if source.name == "docker.sock":
        raise SpecError(f"{source} does not exist: the Docker API is not there; remove this bind")
    if not mount.create_host_path:
        raise SpecError(f"bind source {source} does not exist; create it, or set create_host_path: true")
    try:
        source.mkdir(parents=True)
        if owner:
            os.chown(source, *owner)
    except OSError as error:
        raise SpecError(f"bind source {source} cannot be made: {error.strerror}") from error


def _check_propagation(source: Path, propagation: str) -> None:
    """Raise SpecError where the machine's mount would let nothing through."""
    kind = propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return
    place = mount_table.holding(source)
    if not place.shared and not (kind == "slave" and place.slave):
        raise SpecError(
            f"bind source {source} lies on {place.point}, which is not a shared mount, so {propagation} cannot be; "
            f"run mount --make-shared {place.point}, or leave propagation out"
        )


def _tmpfs(mount: pb.Mount) -> OciMount:
    options = ["nosuid", "nodev", "noexec", *mount.tmpfs_options, f"mode={mount.tmpfs_mode or 0o1777:o}"]
    if mount.tmpfs_size_bytes:
        options.append(f"size={mount.tmpfs_size_bytes}")
    if mount.read_only:
        options.append("ro")
    return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _image(runner: Runner, mount: pb.Mount) -> OciMount:
    """An image's files, read-only: an overlay of its layers, or the only layer itself."""
    image = runner.agent.images.find(mount.source)
    if image is None:
        raise SpecError(f"image {mount.source}, to be mounted at {mount.target}, is not on this node; pull or load it")
    if image.id not in runner.record.image_mounts:
        runner.record.image_mounts.append(image.id)
    layers = runner.agent.images.layers(image.id)
    mapped = ["ridmap"] if ids.range_of(runner) else []
    if len(layers) == 1:
        found = bind(layers[0], mount.target, "rprivate", "ro", *mapped)
    else:
        options = ["ro", f"lowerdir={':'.join(map(str, layers))}", *mapped]
        found = {"destination": mount.target, "type": "overlay", "source": "overlay", "options": options}
    return _below(found, mount) | {"image": image.id}


async def _volume(runner: Runner, mount: pb.Mount, number: int, lower: Sequence[Path]) -> OciMount:
    agent, record = runner.agent, runner.record
    name = mount.source or _anonymous(runner, mount.target, number)
    uses = record.named_volumes if mount.source else record.volumes
    if name not in uses:
        uses.append(name)
    copy = not mount.no_copy and not mount.subpath
    path = await agent.volumes.ensure(name, options_of(runner, name), lower, mount.target, copy=copy)
    if mount.source:
        agent.report_volume(name, str(path))
    found = bind(path, mount.target, "rprivate", *(["ro"] if mount.read_only else [])) | {"volume": name}
    return _below(_as_container(found, ids.range_of(runner)), mount)


def slot_prefix(task: task_pb2.Task) -> str:
    """Return how the names of the anonymous volumes of a task's slot begin."""
    return f"{task.service_id}-{task.slot}-"


def _anonymous(runner: Runner, target: str, number: int) -> str:
    """Return the volume's name: the slot's, so that the next container finds its data; two at once have one each."""
    prefix = slot_prefix(runner.task)
    place = hashlib.sha256(target.rstrip("/").encode()).hexdigest()[:12]
    name = f"{prefix}{runner.spec.volume_generation}-{place}"
    beside = [each for each in runner.agent.runners.values() if each is not runner and not each.done]
    if any(slot_prefix(each.task) == prefix and name in each.record.volumes for each in beside):
        return f"{prefix}{runner.id[:24]}-{number}"
    return name


def _below(found: OciMount, mount: pb.Mount) -> OciMount:
    return found | {"subpath": mount.subpath} if mount.subpath else found


def options_of(runner: Runner, name: str) -> dict[str, str]:
    """Return a volume's driver options."""
    known = runner.agent.desired.volumes.get(name)
    return dict(known.spec.driver_options) if known is not None else {}


def _others(runner: Runner) -> list[OciMount]:
    """Return the volumes and binds of the containers that volumes_from names, as they have them."""
    found = []
    for wanted in runner.spec.container.volumes_from:
        other = runner.agent.neighbour(runner.task, wanted.source)
        if other is None or not other.record.created:
            raise SpecError(f"volumes_from {wanted.source}: that container is not on this node")
        for theirs, ours in (
            (other.record.volumes, runner.record.volumes),
            (other.record.named_volumes, runner.record.named_volumes),
        ):
            ours += [name for name in theirs if name not in ours]
        for mount in other.record.data_mounts:
            more = ["ro"] if wanted.read_only else []
            found.append(_as_container({**mount, "options": [*mount["options"], *more]}, ids.range_of(runner)))
    return found
