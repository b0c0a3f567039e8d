"""As much of D-Bus as asking systemd takes: values as bytes and back, and one connection to systemd itself.

The connection is the manager's own socket (/run/systemd/private), which systemctl(1) uses as root: no bus has to run,
and every job's end is told without asking. Sources: the D-Bus specification ("Message Protocol", "Authentication
Protocol"), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import itertools
import os
import socket
import struct

from pycompose.worker.runtime.errors import StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PRIVATE = "/run/systemd/private"
SYSTEMD, MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
SECONDS = 60.0
CALL, REPLY, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_TO, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNED = {"g": 1, "v": 1, "s": 4, "o": 4, "a": 4, "(": 8, "{": 8}


class DbusError(StepError):
    """An answer that is an error; ``name`` is its name, such as org.freedesktop.systemd1.UnitExists."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"systemd: {text or name}")
        self.name = name


def types(signature: str) -> list[str]:
    """A signature's complete types: "sa(sv)u" is "s", "a(sv)", "u"."""
    found, start = [], 0
    while start < len(signature):
        end = start
        while signature[end] == "a":
            end += 1
        depth = 0
        while True:
            depth += (signature[end] in "({") - (signature[end] in ")}")
            end += 1
            if not depth:
                break
        found.append(signature[start:end])
        start = end
    return found


def _alignment(kind: str) -> int:
    return _ALIGNED.get(kind[0]) or struct.calcsize(_FIXED[kind[0]])


def _pad(out: bytearray, alignment: int) -> None:
    out.extend(bytes(-len(out) % alignment))


def put(out: bytearray, kind: str, value: Any) -> None:
    """Append a value of one complete type; a variant is a pair of signature and value."""
    _pad(out, _alignment(kind))
    if kind in _FIXED:
        out += struct.pack("<" + _FIXED[kind], value)
    elif kind in "so":
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    elif kind == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        put(out, "g", value[0])
        put(out, value[0], value[1])
    elif kind[0] == "a":
        out += bytes(4)
        length_at = len(out) - 4
        _pad(out, _alignment(kind[1:]))
        start = len(out)
        for item in value:
            put(out, kind[1:], item)
        struct.pack_into("<I", out, length_at, len(out) - start)
    else:
        for inner, item in zip(types(kind[1:-1]), value, strict=True):
            put(out, inner, item)


def take(data: bytes, at: int, kind: str) -> tuple[Any, int]:
    """The value of one complete type at an offset, and the offset after it; a variant is its value alone."""
    at += -at % _alignment(kind)
    if kind in _FIXED:
        return struct.unpack_from("<" + _FIXED[kind], data, at)[0], at + struct.calcsize(_FIXED[kind])
    if kind in "so":
        end = at + 4 + struct.unpack_from("<I", data, at)[0]
        return data[at + 4 : end].decode(), end + 1
    if kind == "g":
        end = at + 1 + data[at]
        return data[at + 1 : end].decode(), end + 1
    if kind == "v":
        signature, at = take(data, at, "g")
        return take(data, at, signature)
    found: list[Any] = []
    if kind[0] == "a":
        size, at = take(data, at, "u")
        at += -at % _alignment(kind[1:])
        end = at + size
        while at < end:
            value, at = take(data, at, kind[1:])
            found.append(value)
        return found, at
    for inner in types(kind[1:-1]):
        value, at = take(data, at, inner)
        found.append(value)
    return tuple(found), at


def call(serial: int, member: str, signature: str, values: Sequence[Any], *, interface: str = MANAGER) -> bytes:
    """A method call to systemd's manager as bytes."""
    body = bytearray()
    for kind, value in zip(types(signature), values, strict=True):
        put(body, kind, value)
    fields = [
        (_PATH, ("o", SYSTEMD)),
        (_INTERFACE, ("s", interface)),
        (_MEMBER, ("s", member)),
        (_DESTINATION, ("s", "org.freedesktop.systemd1")),
        (_SIGNATURE, ("g", signature)),
    ]
    out = bytearray(struct.pack("<cBBBII", b"l", CALL, 0, 1, len(body), serial))
    put(out, "a(yv)", fields)
    _pad(out, 8)
    return bytes(out + body)


class Message:
    """One message that came."""

    __slots__ = ("body", "error", "kind", "member", "reply_to")

    def __init__(self, header: bytes, body: bytes) -> None:
        self.kind = header[1]
        fields = dict(take(header, 12, "a(yv)")[0])
        self.member, self.error = fields.get(_MEMBER, ""), fields.get(_ERROR_NAME, "")
        self.reply_to: int = fields.get(_REPLY_TO, 0)
        self.body: list[Any] = []
        at = 0
        for kind in types(fields.get(_SIGNATURE, "")):
            value, at = take(body, at, kind)
            self.body.append(value)


class Systemd:
    """A connection to the system's manager; a context manager.

    Raises:
        StepError: systemd does not answer there.
    """

    def __init__(self, path: str = PRIVATE) -> None:
        self._serials = itertools.count(1)
        self._ended: dict[str, str] = {}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        try:
            self._socket.connect(path)
            self._authenticate()
        except OSError as error:
            self._socket.close()
            raise StepError(f"systemd: cannot connect to {path}: {error.strerror or error}") from error

    def _authenticate(self) -> None:
        # BEGIN in the same write: what came with it in one read, a first call, systemd would leave in its buffer
        name = str(os.getuid()).encode().hex().encode()
        self._socket.sendall(b"\0AUTH EXTERNAL " + name + b"\r\nBEGIN\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            got = self._socket.recv(1)
            if not got:
                raise ConnectionError("it hung up")
            answer += got
        if not answer.startswith(b"OK "):
            raise ConnectionError(f"it refused: {answer.decode(errors='replace').strip()}")

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, member: str, signature: str, *values: Any, interface: str = MANAGER) -> int:
        """Call a method without waiting for its answer; returns the call's number. Raises OSError."""
        serial = next(self._serials)
        self._socket.sendall(call(serial, member, signature, values, interface=interface))
        return serial

    def ask(self, member: str, signature: str, *values: Any, interface: str = MANAGER) -> list[Any]:
        """Call a method and return its answer's values.

        Raises:
            DbusError: the answer is an error.
            StepError: no answer came within a minute.
        """
        try:
            serial = self.send(member, signature, *values, interface=interface)
            while True:
                message = self._receive()
                if message.reply_to == serial and message.kind == REPLY:
                    return message.body
                if message.reply_to == serial and message.kind == ERROR:
                    raise DbusError(message.error, str(message.body[0]) if message.body else "")
                self._note(message)
        except OSError as error:
            raise StepError(f"systemd: {member}: {error.strerror or error}") from error

    def wait(self, job: str) -> str:
        """Wait for a job's end; returns its result, "done" when it went well.

        Raises:
            StepError: it did not end within a minute.
        """
        try:
            while job not in self._ended:
                self._note(self._receive())
        except OSError as error:
            raise StepError(f"systemd: the job did not end: {error.strerror or error}") from error
        return self._ended.pop(job)

    def _note(self, message: Message) -> None:
        if message.kind == SIGNAL and message.member == "JobRemoved":
            _, job, _, result = message.body
            self._ended[job] = result

    def _receive(self) -> Message:
        start = self._read(16)
        if start[:1] != b"l":
            raise ConnectionError("a message in another byte order")
        body, _, fields = struct.unpack_from("<III", start, 4)
        header = start + self._read(fields + -(16 + fields) % 8)
        return Message(header, self._read(body))

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            got = self._socket.recv(size - len(found))
            if not got:
                raise ConnectionError("it hung up")
            found += got
        return found
