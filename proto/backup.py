"""The file of a backup: frames, each with its checksum, and an end that counts them.

::

    "pycompose backup\\n"
    frame: kind (1 byte), length of the body (4 bytes, big-endian), body, SHA-256 of all that (32 bytes)
      H  the head, JSON: which format, what it is of, how its key is found
      P  a part: a `BackupPart` (backup.proto) under AES-256-GCM; nonce: its number, from 0
      E  the end, JSON: how many parts, SHA-256 of the file up to here, and a seal made with the same key

A file that was cut anywhere has no end; a changed byte fails its frame's checksum, and without any key; the seal keeps
somebody without the key from making another end. Nothing follows the end.

The key of the parts is random, and lies in the head under another one: made of a passphrase (scrypt, RFC 7914), or, in
a backup without keys, the store's own data key.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Self

MAGIC = b"pycompose backup\n"
#: The newest format, which is written; all before it are read.
FORMAT = 1
HEAD, PART, END = b"H", b"P", b"E"
#: A part is made of about this much; none is larger than the limit.
PART_BYTES, LIMIT_BYTES = 256 * 1024, 64 * 1024 * 1024
_LENGTHS, _DIGEST = struct.Struct(">cI"), 32
#: scrypt takes 128 * r * n bytes: 64 MiB, and a fifth of a second.
_COST, _BLOCK, _LARGEST = 2**16, 8, 2**20


class BackupError(Exception):
    """A backup cannot be used; the message says why, and follows "the backup "."""


@dataclass(frozen=True)
class Head:
    """What everybody may know of a backup.

    Attributes:
        format: see `FORMAT`.
        version: of the pycompose that made it.
        made_at: seconds since the epoch.
        cluster: the cluster's name; "" for a single node.
        key: the parts' key, under another one; hex.
        with_keys: the other one is of a passphrase, and the first part has the store's keys.
        note: how the passphrase makes the key (see `Passphrase`).
    """

    format: int
    version: str
    made_at: float
    cluster: str
    key: str
    with_keys: bool
    note: str = ""

    def encoded(self) -> bytes:
        """Return the head's body."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Self:
        """Read the head's body. Raises BackupError."""
        try:
            found = json.loads(data)
            if found["format"] > FORMAT:
                raise BackupError(
                    f"is of format {found['format']}, made by pycompose {found.get('version')}, and this one reads up "
                    f"to {FORMAT}: upgrade this pycompose"
                )
            return cls(**found)
        except (ValueError, TypeError, KeyError):
            raise BackupError("has a head that cannot be read") from None


@dataclass(frozen=True)
class End:
    """Attributes: parts: how many there are; keys: entries in them; digest: SHA-256 of the file before the end, hex;
    seal: of digest and counts, hex.
    """

    parts: int
    keys: int
    digest: str
    seal: str

    def encoded(self) -> bytes:
        """Return the end's body."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Self:
        """Read the end's body. Raises BackupError."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            raise BackupError("has an end that cannot be read") from None


@dataclass(frozen=True)
class Passphrase:
    """How a passphrase makes a key: scrypt's cost (n) and salt (hex)."""

    salt: str
    cost: int = _COST

    def note(self) -> str:
        """Return what the head keeps."""
        return json.dumps({"scrypt": asdict(self)})

    @classmethod
    def of(cls, note: str) -> Self:
        """Read what the head keeps. Raises BackupError."""
        try:
            found = cls(**json.loads(note)["scrypt"])
            bytes.fromhex(found.salt)
            if not 2**10 <= found.cost <= _LARGEST or found.cost & (found.cost - 1):
                raise ValueError("cost")
        except (ValueError, TypeError, KeyError):
            raise BackupError("does not say how its passphrase makes a key") from None
        return found

    def key(self, passphrase: str) -> bytes:
        """Return 32 bytes."""
        memory = 256 * _BLOCK * self.cost
        salt = bytes.fromhex(self.salt)
        return hashlib.scrypt(passphrase.encode(), salt=salt, n=self.cost, r=_BLOCK, p=1, maxmem=memory, dklen=32)


def frame(kind: bytes, body: bytes) -> bytes:
    """Return a frame."""
    data = _LENGTHS.pack(kind, len(body)) + body
    return data + hashlib.sha256(data).digest()


class Frames:
    """Takes the bytes of a file as they come, and gives whole frames, checked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._begun = self.ended = False
        self.number = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield kind and body of each frame that is complete by now. Raises BackupError."""
        self._buffer += data
        if not self._begun:
            if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
                raise BackupError("is none: the file does not begin as one that pycompose made")
            if len(self._buffer) < len(MAGIC):
                return
            self._begun = True
            self._take(len(MAGIC))
        while len(self._buffer) >= _LENGTHS.size:
            if self.ended:
                raise BackupError("has something behind its end")
            kind, length = _LENGTHS.unpack_from(self._buffer)
            if length > LIMIT_BYTES or kind != (HEAD if self.number == 0 else kind) or kind not in (HEAD, PART, END):
                raise self._damaged()
            size = _LENGTHS.size + length + _DIGEST
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[_LENGTHS.size : size - _DIGEST])
            if frame(kind, body) != self._buffer[:size]:
                raise self._damaged()
            if kind == END:
                self.ended = True
                if End.decoded(body).digest != self._digest.hexdigest():
                    raise BackupError("is damaged: its checksum as a whole differs")
            self._take(size)
            self.number += 1
            yield kind, body

    def _take(self, size: int) -> None:
        self._digest.update(self._buffer[:size])
        del self._buffer[:size]

    def _damaged(self) -> BackupError:
        return BackupError(f"is damaged in its part {self.number}: the checksum differs")

    def finish(self) -> None:
        """Say that the file ends here. Raises BackupError."""
        if not self.ended:
            raise BackupError(f"was cut off, after {max(0, self.number - 1)} whole parts")
        if self._buffer:
            raise BackupError("has something behind its end")
