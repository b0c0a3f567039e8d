"""The container's root: its layers, everything mounted in it, and its devices.

Built in the container's mount namespace, before pivot_root, by descriptors only; where that belongs to a user
namespace, what needs the machine's rights is made before, detached, and only attached there. A key of a mount is ours,
beside the runtime-spec's: ``subpath`` mounts a path below the source (or below the new file system's root) in place of
the whole; it is resolved inside of it, so a link there leads nowhere else.

Source: OCI runtime-spec config.md "Mounts", config-linux.md "Devices" and "Rootfs Mount Propagation";
mount_namespaces(7).
"""

from __future__ import annotations

import contextlib
import os
import stat

from pycompose.worker.runtime import cgroups, idmap, mounts, owning, paths, syscalls
from pycompose.worker.runtime.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from pycompose.worker.runtime.namespaces import Plan
    from pycompose.worker.runtime.userns import Users

_DEV_LINKS = (
    (b"/proc/self/fd", b"fd"),
    (b"/proc/self/fd/0", b"stdin"),
    (b"/proc/self/fd/1", b"stdout"),
    (b"/proc/self/fd/2", b"stderr"),
    (b"pts/ptmx", b"ptmx"),
)


class Progress:
    """Where a failure happened: the name of the step that is being done, and who wants to hear of it."""

    def __init__(self, channel: socket.socket) -> None:
        self.step, self.channel = "start", channel


class Prepared:
    """Descriptors of detached mounts that were made with the machine's rights, before a user namespace was entered.

    ``mounts`` and ``devices`` are by their number in the configuration.
    """

    __slots__ = ("devices", "mounts", "root")

    def __init__(self, root: int) -> None:
        self.root = root
        self.mounts: dict[int, int] = {}
        self.devices: dict[int, int] = {}


def prepare(
    launch: dict[str, Any], plan: Plan, users: Users, progress: Progress, *, ordinary: bool = False
) -> Prepared:
    """Make what a user namespace has no rights to, in a mount namespace that is left behind.

    ``ordinary``: for an ordinary user, within the user namespace, as far as that goes. Whoever makes a mount namespace
    from this one has the place of the root as its working directory.
    """
    config: dict[str, Any] = launch["config"]
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount_setattr(syscalls.AT_FDCWD, propagation=mounts.MS_SLAVE, recursive=True, path=b"/")
    place: str = launch["mountpoint"]
    progress.step = f"mount the root from {', '.join(launch['rootfs']['lower'][:2])}"
    found = Prepared(mounts.overlay(launch["rootfs"], place, users.layers() if launch["rootfs"].get("idmap") else -1))
    for number, mount in enumerate(config.get("mounts") or []):
        if _is_machines(mount, plan):
            progress.step = f"mount {mount.get('source') or mount.get('type')} at {mount['destination']}"
            found.mounts[number] = _make(mount, place, users)
    progress.step = "make devices"
    devices = (config.get("linux") or {}).get("devices") or []
    wanted = {number: device for number, device in enumerate(devices) if device["type"] != "p"}
    bind_ = mounts.MountOptions(["bind"])
    if ordinary:
        found.devices = {number: mounts.clone(_machines(device), bind_) for number, device in wanted.items()}
    else:
        with mounts.scratch(place) as scratch:
            for number, device in wanted.items():
                name = str(number).encode()
                _node(device, name, scratch, users.outside(device.get("uid") or 0, device.get("gid") or 0))
                found.devices[number] = mounts.clone(name, bind_, scratch)
    os.chdir(place)
    return found


def _machines(device: dict[str, Any]) -> bytes:
    """The machine's file of a device, for who can make none. Raises ConfigError."""
    path: str = device["path"]
    if not os.path.exists(path) or os.stat(path).st_rdev != os.makedev(device["major"], device["minor"]):
        raise ConfigError(f"linux.devices: {path} is not there, and an ordinary user can make no device")
    return path.encode()


def _is_machines(mount: dict[str, Any], plan: Plan) -> bool:
    """Whether a user namespace of the container's has no right to make the mount: it owns the new namespaces only."""
    kind = mount.get("type") or ""
    if mounts.MountOptions(mount.get("options") or []).bind or kind in ("bind", "overlay"):
        return True
    owners = {
        "cgroup": syscalls.CLONE_NEWCGROUP,
        "mqueue": syscalls.CLONE_NEWIPC,
        "proc": syscalls.CLONE_NEWPID,
        "sysfs": syscalls.CLONE_NEWNET,
    }
    inside = plan.new | plan.children_new | sum(plan.children_join)  # only the first process is in those joined
    return kind in owners and not owners[kind] & inside


def build(launch: dict[str, Any], progress: Progress, prepared: Prepared | None = None) -> tuple[int, list[int]]:
    """Build the root with all its mounts in this mount namespace; returns its descriptor and devpts mounts."""
    config: dict[str, Any] = launch["config"]
    linux: dict[str, Any] = config.get("linux") or {}
    wanted: list[dict[str, Any]] = config.get("mounts") or []
    if prepared is None:
        made_before, devices = _of_the_machine(linux, wanted, progress), {}
        progress.step = f"mount the root from {', '.join(launch['rootfs']['lower'][:2])}"
        root = mounts.overlay(launch["rootfs"], launch["mountpoint"])
        place = os.open(launch["mountpoint"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        made_before, devices, root = prepared.mounts, prepared.devices, prepared.root
        progress.step = "attach the root"
        place = syscalls.AT_FDCWD
    syscalls.mount_setattr(root, propagation=mounts.MS_PRIVATE)
    syscalls.move_mount(root, place)
    consoles: list[int] = []
    for number, mount in enumerate(wanted):
        progress.step = f"mount {mount.get('source') or mount.get('type')} at {mount['destination']}"
        if number in made_before:
            _attach(root, mount, made_before[number], consoles)
        elif (mount.get("type") or "") == "cgroup":
            _mount_cgroup(root, mount, mounts.MountOptions(mount.get("options") or []))
        else:
            _attach(root, mount, _make(mount, launch["mountpoint"]), consoles)
    with contextlib.suppress(OSError):  # a root that is read-only: then it is there, or the program cannot start
        os.close(paths.make_directories(root, os.fsencode(config["process"].get("cwd") or "/")))
    progress.step = "make devices"
    _devices(root, linux.get("devices") or [], devices)
    return root, consoles


def _of_the_machine(linux: dict[str, Any], wanted: list[dict[str, Any]], progress: Progress) -> dict[int, int]:
    """Cut this mount namespace off from the machine's; returns copies of what stays a peer of the machine's."""
    progress.step = "copy shared mounts"
    shared = {number: bind(mount) for number, mount in enumerate(wanted) if _is_shared(mount)}
    progress.step = "make mounts private"
    kind, _ = mounts.PROPAGATION.get(linux.get("rootfsPropagation") or "slave", (mounts.MS_SLAVE, True))
    # never a peer of the machine's, nor unbindable: the root and what is bound have to be copied from here
    kind = mounts.MS_PRIVATE if kind in (mounts.MS_PRIVATE, mounts.MS_UNBINDABLE) else mounts.MS_SLAVE
    syscalls.mount_setattr(syscalls.AT_FDCWD, propagation=kind, recursive=True, path=b"/")
    return shared


def propagate(linux: dict[str, Any]) -> None:
    """Give the container's root, which "/" is by now, the propagation that it is to have (mount_namespaces(7))."""
    kind, recursive = mounts.PROPAGATION.get(linux.get("rootfsPropagation") or "", (mounts.MS_PRIVATE, False))
    if kind != mounts.MS_PRIVATE:
        syscalls.mount_setattr(syscalls.AT_FDCWD, propagation=kind, recursive=recursive, path=b"/")


def _is_shared(mount: dict[str, Any]) -> bool:
    """Whether mounts made below it in the container are to appear on the machine: then it must be copied first.

    Once this namespace is a slave of the machine's, nothing that is copied from it can be a peer any more.
    """
    options = mounts.MountOptions(mount.get("options") or [])
    return options.bind and options.propagation is not None and options.propagation[0] == mounts.MS_SHARED


def _make(mount: dict[str, Any], scratch: str, users: Users | None = None) -> int:
    """A detached mount. ``scratch`` is a directory of the machine that nobody else looks at from this namespace."""
    options = mounts.MountOptions(mount.get("options") or [])
    kind = mount.get("type") or ""
    if options.bind or kind == "bind":
        return bind(mount, users)
    if kind == "cgroup":  # there is no namespace of the container's own: it sees the machine's
        return mounts.clone(b"/sys/fs/cgroup", mounts.MountOptions(["rbind", *(mount.get("options") or [])]))
    if kind == "overlay" and options.idmap and users is not None:
        layers = dict(options.data).get("lowerdir") or ""
        made = mounts.overlay({"lower": layers.split(":"), "readonly": True}, scratch, users.layers())
        syscalls.mount_setattr(made, set_=options.set)
    else:
        made = mounts.new_filesystem(kind, mount.get("source") or "", mounts.layered(kind, options.data), options.set)
    if not mount.get("subpath"):
        return made
    # a copy of a part can only be taken of what is attached somewhere
    place = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(made, place)
    try:
        return _below(made, mount["subpath"], options)
    finally:
        syscalls.umount(os.fsencode(scratch), syscalls.MNT_DETACH)
        os.close(place)
        os.close(made)


def bind(mount: dict[str, Any], users: Users | None = None) -> int:
    """A detached copy of what a bind mount names, with its owners mapped."""
    options = mounts.MountOptions(mount.get("options") or [])
    source = os.fsencode(mount.get("source") or "")
    if mount.get("subpath"):
        directory = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            made = _below(directory, mount["subpath"], options)
        finally:
            os.close(directory)
    else:
        made = mounts.clone(source, options)
    if mount.get("uidMappings") or options.idmap:
        _map(made, mount, options, users)
    return made


def _map(made: int, mount: dict[str, Any], options: mounts.MountOptions, users: Users | None) -> None:
    own = users is not None and users.own(mount)
    if not own and not mount.get("uidMappings"):
        raise ConfigError(f"{options.idmap}: needs uidMappings and gidMappings, or a user namespace")
    uids = mount.get("uidMappings") or []
    namespace = users.fd if users is not None and own else -1
    recursive = options.idmap == "ridmap"
    idmap.apply(made, uids, mount.get("gidMappings") or uids, namespace=namespace, recursive=recursive)


def _below(directory: int, subpath: str, options: mounts.MountOptions) -> int:
    try:
        found = paths.open_in_root(directory, os.fsencode(subpath))
    except OSError as error:
        raise ConfigError(f"subpath {subpath!r}: {error.strerror}") from None
    try:
        return mounts.clone(b"", options, found)
    finally:
        os.close(found)


def _attach(root: int, mount: dict[str, Any], made: int, consoles: list[int]) -> None:
    mounts.mount_over(root, made, os.fsencode(mount["destination"]))
    mounts.finish(made, mounts.MountOptions(mount.get("options") or []))
    if mount.get("type") == "devpts":
        consoles.append(made)
    else:
        os.close(made)


def _mount_cgroup(root: int, mount: dict[str, Any], options: mounts.MountOptions) -> None:
    """/sys/fs/cgroup as the cgroup namespace shows it: cgroup2, or a tmpfs with one mount per v1 hierarchy."""
    destination = mount["destination"].encode()
    controllers, unified = cgroups.mounted()
    flags = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
    if not controllers and unified:
        made = mounts.new_filesystem("cgroup2", "cgroup", [], flags | options.set)
        mounts.mount_over(root, made, destination)
        os.close(made)
        return
    base = mounts.new_filesystem("tmpfs", "tmpfs", [("mode", "755")], flags)
    mounts.mount_over(root, base, destination)
    groups: dict[str, list[str]] = {}
    for name, point in controllers.items():
        groups.setdefault(point, []).append(name)
    for names in groups.values():
        made = mounts.new_filesystem("cgroup", "cgroup", [(name, None) for name in names], flags | options.set)
        os.mkdir(",".join(names), dir_fd=base)  # a fresh tmpfs of ours: nothing in it can lead elsewhere
        place = os.open(",".join(names), os.O_PATH | os.O_CLOEXEC, dir_fd=base)
        syscalls.move_mount(made, place)
        os.close(place)
        os.close(made)
    if options.set & mounts.RDONLY:
        syscalls.mount_setattr(base, set_=mounts.RDONLY)
    os.close(base)


def _devices(root: int, devices: list[dict[str, Any]], made: dict[int, int]) -> None:
    for number, device in enumerate(devices):
        path = device["path"].encode()
        if number in made:
            _attach_node(root, path, made[number])
            continue
        if not owning.machines_root() and device["type"] != "p":
            _attach_node(root, path, mounts.clone(_machines(device), mounts.MountOptions(["bind"])))
            continue
        parent_path, _, name = path.rpartition(b"/")
        parent = paths.make_directories(root, parent_path)
        try:
            _node(device, name, parent, (device.get("uid") or 0, device.get("gid") or 0))
        except FileExistsError:
            pass  # /dev bound from the machine, or the image's own
        finally:
            os.close(parent)
    dev = paths.make_directories(root, b"/dev")
    for target, name in _DEV_LINKS:
        try:
            os.symlink(target, name, dir_fd=dev)
        except (FileExistsError, OSError):
            continue  # a read-only or bound /dev keeps what it has
    os.close(dev)


def _node(device: dict[str, Any], name: bytes, parent: int, owner: tuple[int, int]) -> None:
    kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    mode = device.get("fileMode")
    mode = 0o666 if mode is None else mode
    number = 0 if device["type"] == "p" else os.makedev(device["major"], device["minor"])
    old = os.umask(0)
    try:
        os.mknod(name, kinds[device["type"]] | mode, number, dir_fd=parent)
    finally:
        os.umask(old)
    if any(owner):
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)


def _attach_node(root: int, path: bytes, made: int) -> None:
    """Put a device over the file at ``path``, unless the very device is there: /dev bound from the machine."""
    target = paths.make_target(root, path, directory=False)
    if os.fstat(target).st_rdev != os.fstat(made).st_rdev:
        syscalls.move_mount(made, target)
    os.close(target)
    os.close(made)
