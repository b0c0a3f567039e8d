"""System calls that Python's standard library lacks, by ctypes; nothing else.

Every function raises ``OSError`` with the kernel's errno. Numbers above 424 are the same on all
architectures (syscalls(2)); older calls go through glibc's wrappers.

Sources: man 2 unshare, setns, pivot_root, umount, prctl, capset, close_range, openat2, execveat,
open_tree, move_mount, fsopen, fsconfig, fsmount, mount_setattr, seccomp.
"""

from __future__ import annotations

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_NO_AUTOMOUNT = 0x800

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
MNT_DETACH = 2

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
#: Older calls that glibc does not wrap have numbers by architecture. Asked for once: personality(2) changes the answer.
_MACHINE = os.uname().machine
_BPF = {"x86_64": 321, "aarch64": 280}
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_CLOSE_RANGE, _OPENAT2, _PIDFD_GETFD, _MOUNT_SETATTR = 436, 437, 438, 442
_MOUNT_ATTR_IDMAP = 0x00100000


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _SchedAttr(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


class _BpfProgram(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("instructions", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 96),
    )


class _BpfAttach(ctypes.Structure):
    _fields_ = (
        ("target", ctypes.c_uint32),
        ("program", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _syscall(number: int, *arguments: object) -> int:
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *converted)))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2): enter the namespace behind ``fd``; ``kind`` is one CLONE_NEW* flag that it must match."""
    _checked(_libc.setns(fd, kind))


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """pivot_root(2)."""
    _checked(_libc.pivot_root(new_root, put_old))


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    """mount(2)."""
    _checked(_libc.mount(source, target, kind, ctypes.c_ulong(flags), data))


def umount(target: bytes, flags: int) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(target, flags))


def prctl(option: int, second: int = 0, third: int = 0) -> int:
    """prctl(2) with integer arguments."""
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(option, ctypes.c_ulong(second), ctypes.c_ulong(third), zero, zero))


def is_subreaper() -> bool:
    """prctl(2), PR_GET_CHILD_SUBREAPER: whether orphans below this process become its children."""
    found = ctypes.c_int()
    _checked(_libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0))
    return bool(found.value)


def set_file_ids(uid: int, gid: int) -> None:
    """setfsgid(2), setfsuid(2): who owns the files that this thread makes. They tell no error."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)


def set_process_name(name: bytes) -> None:
    """prctl(2), PR_SET_NAME: at most 15 bytes."""
    _checked(_libc.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0))


def setdomainname(name: bytes) -> None:
    """setdomainname(2)."""
    _checked(_libc.setdomainname(name, ctypes.c_size_t(len(name))))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2), version 3: the three sets as 64-bit masks, for the calling thread."""
    header = _CapHeader(0x20080522, 0)
    low, high = 0xFFFFFFFF, 32
    data = (_CapData * 2)(
        _CapData(effective & low, permitted & low, inheritable & low),
        _CapData(effective >> high, permitted >> high, inheritable >> high),
    )
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(data)))


def set_seccomp_filter(program: bytes, flags: int) -> int:
    """seccomp(2), SECCOMP_SET_MODE_FILTER: install a BPF program (8 bytes per instruction).

    Returns:
        With SECCOMP_FILTER_FLAG_NEW_LISTENER among the flags the listener's descriptor, else 0.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return _syscall(_SECCOMP[_MACHINE], 1, flags, ctypes.byref(fprog))


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): a duplicate of another process's descriptor."""
    return _syscall(_PIDFD_GETFD, pidfd, fd, 0)


def close_range(first: int, last: int) -> None:
    """close_range(2): close every descriptor in [first, last]."""
    if first <= last:
        _syscall(_CLOSE_RANGE, first, last, 0)


def populate(address: int, length: int) -> None:
    """madvise(2), MADV_POPULATE_WRITE: fault pages in as if they were written to."""
    _checked(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), 23))


def openat2(directory: int, path: bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """openat2(2): open ``path`` with ``directory`` as its root."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(_OPENAT2, directory, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how))


def open_tree(directory: int, path: bytes, *, clone: bool = True, recursive: bool = False) -> int:
    """open_tree(2): a descriptor of a mount; with ``clone`` a detached copy of it."""
    flags = OPEN_TREE_CLOEXEC | (OPEN_TREE_CLONE if clone else 0)
    flags |= (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _syscall(_OPEN_TREE, directory, ctypes.c_char_p(path), flags)


def move_mount(mount: int, target: int) -> None:
    """move_mount(2): attach the detached mount ``mount`` over the file that ``target`` describes."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _syscall(_MOVE_MOUNT, mount, ctypes.c_char_p(b""), target, ctypes.c_char_p(b""), flags)


def fsopen(kind: bytes) -> int:
    """fsopen(2): a context in which a file system of ``kind`` is configured."""
    return _syscall(_FSOPEN, ctypes.c_char_p(kind), 1)


def fsconfig(context: int, key: bytes, value: bytes | None) -> None:
    """fsconfig(2): one option, a flag when ``value`` is None."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    _syscall(_FSCONFIG, context, command, ctypes.c_char_p(key), ctypes.c_char_p(value), 0)


def fscreate(context: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: make the superblock."""
    _syscall(_FSCONFIG, context, FSCONFIG_CMD_CREATE, ctypes.c_char_p(None), ctypes.c_char_p(None), 0)


def fsmount(context: int, attributes: int) -> int:
    """fsmount(2): a detached mount of the configured file system."""
    return _syscall(_FSMOUNT, context, 1, attributes)


def mount_setattr(
    mount: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, path: bytes = b""
) -> None:
    """mount_setattr(2): change attributes and propagation of a mount, or of a tree of them."""
    attributes = _MountAttr(set_, clear, propagation, 0)
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    _syscall(
        _MOUNT_SETATTR,
        mount,
        ctypes.c_char_p(path),
        flags,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )


def personality(value: int) -> None:
    """personality(2)."""
    _checked(_libc.personality(ctypes.c_ulong(value)))


def ioprio_set(value: int) -> None:
    """ioprio_set(2) for the calling process."""
    _syscall(_IOPRIO_SET[_MACHINE], 1, 0, value)


def sched_setattr(
    *, policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2) for the calling process; times in ns."""
    attributes = _SchedAttr(ctypes.sizeof(_SchedAttr), policy, flags, nice, priority, runtime, deadline, period)
    _syscall(_SCHED_SETATTR[_MACHINE], 0, ctypes.byref(attributes), 0)


def join_session_keyring(name: bytes) -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: leave the caller's keys behind; a kernel without keys has none."""
    try:
        _syscall(_KEYCTL[_MACHINE], 1, ctypes.c_char_p(name))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def bpf_load_device_program(instructions: bytes) -> int:
    """bpf(2), BPF_PROG_LOAD of a BPF_PROG_TYPE_CGROUP_DEVICE: a descriptor of the program."""
    code, license_ = ctypes.create_string_buffer(instructions), ctypes.create_string_buffer(b"Apache")
    attributes = _BpfProgram(15, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(license_))
    return _syscall(_BPF[_MACHINE], 5, ctypes.byref(attributes), ctypes.sizeof(attributes))


def bpf_attach_device_program(program: int, cgroup: int) -> None:
    """bpf(2), BPF_PROG_ATTACH as BPF_CGROUP_DEVICE, beside those that are attached already."""
    attributes = _BpfAttach(cgroup, program, 6, 2)
    _syscall(_BPF[_MACHINE], 8, ctypes.byref(attributes), ctypes.sizeof(attributes))


def filesystem_type(fd: int) -> int:
    """fstatfs(2): the magic number of the file system that the descriptor lies on."""
    buffer = (ctypes.c_long * 32)()  # f_type is the first field on all architectures but s390 and mips
    _checked(_libc.fstatfs(fd, buffer))
    return int(buffer[0])


def mount_idmap(mount: int, user_namespace: int, *, recursive: bool = True) -> None:
    """mount_setattr(2), MOUNT_ATTR_IDMAP: show a detached tree's owners as the user namespace maps them."""
    attributes = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(attributes)
    _syscall(_MOUNT_SETATTR, mount, ctypes.c_char_p(b""), flags, ctypes.byref(attributes), size)


def execveat(fd: int, arguments: list[bytes], environment: list[bytes]) -> None:
    """execveat(2) of the file that ``fd`` describes; returns only by raising."""
    argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    envp = (ctypes.c_char_p * (len(environment) + 1))(*environment, None)
    _checked(_libc.execveat(fd, ctypes.c_char_p(b""), argv, envp, AT_EMPTY_PATH))
