"""Seccomp filters: OCI ``linux.seccomp`` compiled to BPF by libseccomp, once per profile.

The agent compiles (ctypes on libseccomp.so.2) and caches by digest; shims only read the finished
filter (flags in 8 bytes, then the program), so the library is not mapped in them. Source: seccomp_init(3),
seccomp_rule_add(3), seccomp_export_bpf(3), OCI runtime-spec config-linux.md "Seccomp".
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import platform
import struct
from pathlib import Path
from typing import Any

from pycompose.worker.runtime.errors import ConfigError

ACTIONS: dict[str, int] = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
#: seccomp(2), "SECCOMP_SET_MODE_FILTER"; those that a profile may name.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_NEW_LISTENER, _TSYNC_ESRCH = 8, 16
OPERATORS = {
    f"SCMP_CMP_{name}": number for number, name in enumerate(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"), start=1)
}
#: Which of a profile's architectures can run on a machine; others are left out.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
_NMSYSCALL_UNKNOWN = -1
_EPERM, _EEXIST = 1, 17


class _Argument(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise ConfigError("linux.seccomp: libseccomp.so.2 is not installed (package libseccomp2)") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Argument),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def compiled(profile: dict[str, Any], cache: Path) -> str:
    """Path of the compiled filter for a profile, compiled now when no one asked before.

    Raises:
        ConfigError: names the field that is wrong.
    """
    text = json.dumps(profile, sort_keys=True)
    digest = hashlib.sha256(f"{platform.machine()}\n{text}".encode()).hexdigest()
    path = cache / f"{digest}.filter"
    if not path.exists():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = cache / f"{digest}.{os.getpid()}.new"
        temporary.write_bytes(struct.pack("=Q", flags(profile)) + compile_profile(profile))
        temporary.rename(path)
    return str(path)


def notifies(profile: dict[str, Any]) -> bool:
    """Whether calls are decided by a program that listens (seccomp_unotify(2))."""
    return any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls") or [])


def flags(profile: dict[str, Any]) -> int:
    """What seccomp(2) takes beside the program.

    Raises:
        ConfigError: a flag is unknown, or calls are to be notified in a way that cannot work.
    """
    value = 0
    for name in profile.get("flags") or []:
        if name not in FLAGS:
            raise ConfigError(f"linux.seccomp.flags: {name!r} is not supported; known: {', '.join(FLAGS)}")
        value |= FLAGS[name]
    if profile.get("defaultAction") == "SCMP_ACT_NOTIFY":
        raise ConfigError("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would also hold back the runtime's own calls")
    if not notifies(profile):
        return value
    if not str(profile.get("listenerPath") or "").startswith("/"):
        raise ConfigError("linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs the absolute path of a listening socket")
    for number, rule in enumerate(profile.get("syscalls") or []):
        if rule.get("action") == "SCMP_ACT_NOTIFY" and "write" in (rule.get("names") or ()):
            raise ConfigError(
                f"linux.seccomp.syscalls[{number}]: write cannot have SCMP_ACT_NOTIFY: "
                "the runtime hands the listener over with it"
            )
    return value | _NEW_LISTENER | (_TSYNC_ESRCH if value & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"] else 0)


def compile_profile(profile: dict[str, Any]) -> bytes:
    """The BPF program: 8 bytes per instruction, as seccomp(2) takes it."""
    library = _library()
    default = _action(profile.get("defaultAction", ""), profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise ConfigError(f"linux.seccomp: defaultAction {profile.get('defaultAction')!r} is refused by libseccomp")
    try:
        library.seccomp_attr_set(context, 3, 0)  # SCMP_FLTATR_CTL_NNP: no_new_privs is not the filter's business
        library.seccomp_attr_set(context, 8, 2)  # SCMP_FLTATR_CTL_OPTIMIZE: a binary tree of the calls
        _add_architectures(library, context, profile.get("architectures") or [])
        for number, rule in enumerate(profile.get("syscalls") or []):
            _add_rule(library, context, rule, default, number)
        return _unknown_calls(library, profile, default) + _export(library, context)
    finally:
        library.seccomp_release(context)


def _action(name: str, data: int | None) -> int:
    if name not in ACTIONS:
        raise ConfigError(f"linux.seccomp: action {name!r} is not supported; known: {', '.join(ACTIONS)}")
    value = ACTIONS[name]
    return value | ((_EPERM if data is None else data) & 0xFFFF) if name in _WITH_DATA else value


def _add_architectures(library: ctypes.CDLL, context: int, names: list[str]) -> None:
    for name in names:
        if name in ARCHITECTURES.get(platform.machine(), ()):
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            result = library.seccomp_arch_add(context, token)
            if result not in (0, -_EEXIST):
                raise ConfigError(f"linux.seccomp.architectures: {name}: {os.strerror(-result)}")


def _add_rule(library: ctypes.CDLL, context: int, rule: dict[str, Any], default: int, number: int) -> None:
    action = _action(rule.get("action", ""), rule.get("errnoRet"))
    if action == default:
        return
    arguments = rule.get("args") or []
    array = (_Argument * max(len(arguments), 1))()
    for position, argument in enumerate(arguments):
        operator = OPERATORS.get(argument.get("op", ""))
        if operator is None:
            raise ConfigError(f"linux.seccomp.syscalls[{number}].args: operator {argument.get('op')!r} is unknown")
        array[position] = _Argument(argument["index"], operator, argument["value"], argument.get("valueTwo", 0))
    for name in rule.get("names") or ():
        call = library.seccomp_syscall_resolve_name(name.encode())
        if call == _NMSYSCALL_UNKNOWN:
            continue  # newer than the library, or of another architecture
        result = library.seccomp_rule_add_array(context, action, call, len(arguments), array)
        if result < 0:
            raise ConfigError(f"linux.seccomp.syscalls[{number}]: {name}: {os.strerror(-result)}")


#: Machine -> its AUDIT_ARCH (linux/audit.h), which seccomp(2) puts into seccomp_data.arch.
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_ENOSYS = 38


def _unknown_calls(library: ctypes.CDLL, profile: dict[str, Any], default: int) -> bytes:
    """Instructions ahead of the filter: ENOSYS for calls newer than any that the profile names.

    A C library tries a new call and falls back when it is told ENOSYS; the profile's own default, EPERM, would be
    taken as the answer. Only where the default is an errno. BPF: linux/bpf_common.h, seccomp_data of seccomp(2).
    """
    audit = _AUDIT.get(platform.machine())
    if audit is None or default & 0x7FFF0000 != ACTIONS["SCMP_ACT_ERRNO"]:
        return b""
    names = {name for rule in profile.get("syscalls") or [] for name in rule.get("names") or ()}
    highest = max((library.seccomp_syscall_resolve_name(name.encode()) for name in names), default=0)
    load, equal, greater, end = 0x20, 0x15, 0x25, 0x06
    code = [
        (load, 0, 0, 4),
        (equal, 0, 4, audit),
        (load, 0, 0, 0),
        (greater, 2, 0, _X32_BIT - 1),
        (greater, 0, 1, highest),
        (end, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | _ENOSYS),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _export(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        result = library.seccomp_export_bpf(context, fd)
        if result < 0:
            raise ConfigError(f"linux.seccomp: the filter cannot be compiled: {os.strerror(-result)}")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
