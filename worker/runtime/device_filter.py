"""Which devices a cgroup of version 2 may open, as a BPF program made from OCI device rules.

Rules are looked at from the last to the first; the first that covers the whole request decides, and what no rule
covers is refused. Sources: kernel Documentation/admin-guide/cgroup-v2.rst "Device controller", bpf(2),
bpf_cgroup_dev_ctx in linux/bpf.h, OCI runtime-spec config-linux.md "Allowed Device list".
"""

from __future__ import annotations

import os
import struct

from pycompose.worker.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCK, _CHARACTER = 1, 2
_MKNOD, _READ, _WRITE = 1, 2, 4
_ACCESS = {"m": _MKNOD, "r": _READ, "w": _WRITE}
_ALL = _MKNOD | _READ | _WRITE
#: Operation codes of linux/bpf.h and linux/bpf_common.h, and the registers that the program uses.
_LOAD_WORD, _MOVE, _MOVE_NUMBER, _AND, _AND_NUMBER, _SHIFT_RIGHT = 0x61, 0xBF, 0xB7, 0x5F, 0x57, 0x77
_UNLESS_NUMBER, _UNLESS, _EXIT = 0x55, 0x5D, 0x95
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5

Instruction = tuple[int, int, int, int, int]


def _decide(allow: bool) -> list[Instruction]:
    return [(_MOVE_NUMBER, _RESULT, 0, 0, int(allow)), (_EXIT, 0, 0, 0, 0)]


def _rule(rule: dict[str, Any]) -> tuple[list[Instruction], bool]:
    """The instructions of one rule, and whether it covers every request."""
    tests: list[Instruction] = []
    kind = rule.get("type") or "a"
    access = sum(_ACCESS.get(letter, 0) for letter in set(rule.get("access") or "rwm"))
    if kind != "a":
        tests.append((_UNLESS_NUMBER, _TYPE, 0, 0, _BLOCK if kind == "b" else _CHARACTER))
    if access != _ALL:
        tests += [
            (_MOVE, _RESULT, _WANTED, 0, 0),
            (_AND_NUMBER, _RESULT, 0, 0, access),
            (_UNLESS, _RESULT, _WANTED, 0, 0),
        ]
    for register, number in ((_MAJOR, rule.get("major")), (_MINOR, rule.get("minor"))):
        if number is not None and number >= 0 and kind != "a":
            tests.append((_UNLESS_NUMBER, register, 0, 0, number))
    body = tests + _decide(bool(rule.get("allow")))
    jumps = (_UNLESS, _UNLESS_NUMBER)
    linked = [
        (code, to, source, len(body) - position - 1 if code in jumps else offset, number)
        for position, (code, to, source, offset, number) in enumerate(body)
    ]
    return linked, not tests


def program(rules: list[dict[str, Any]]) -> bytes:
    """The program: 8 bytes an instruction, as bpf(2) takes it.

    Args:
        rules: OCI linux.resources.devices: allow, type, major, minor, access.
    """
    code: list[Instruction] = [
        (_LOAD_WORD, _TYPE, _CONTEXT, 0, 0),
        (_MOVE, _WANTED, _TYPE, 0, 0),
        (_AND_NUMBER, _TYPE, 0, 0, 0xFFFF),
        (_SHIFT_RIGHT, _WANTED, 0, 0, 16),
        (_LOAD_WORD, _MAJOR, _CONTEXT, 4, 0),
        (_LOAD_WORD, _MINOR, _CONTEXT, 8, 0),
    ]
    for rule in reversed(rules):
        instructions, covers_all = _rule(rule)
        code += instructions
        if covers_all:
            break
    else:
        code += _decide(False)
    return b"".join(
        struct.pack("<BBhi", op, source << 4 | to, offset, number) for op, to, source, offset, number in code
    )


def attach(directory: str, rules: list[dict[str, Any]]) -> None:
    """Let the rules decide for all processes in the cgroup and below.

    Raises:
        OSError: the kernel refuses the program.
    """
    loaded = syscalls.bpf_load_device_program(program(rules))
    try:
        cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.bpf_attach_device_program(loaded, cgroup)
        finally:
            os.close(cgroup)
    finally:
        os.close(loaded)
