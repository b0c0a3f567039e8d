"""Parts under a key: what writes a backup's file, and what reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from pycompose.manager.sealing import Sealer, SealError
from pycompose.proto.backup import END, HEAD, MAGIC, PART, BackupError, End, Frames, Head, frame
from pycompose.proto.v1.backup_pb2 import BackupPart

#: What the key in a head is sealed as.
_PLACE = "backup/key"


class _Cipher:
    """Of one file: its head's bytes are authenticated with everything."""

    def __init__(self, key: bytes, head: bytes) -> None:
        self._cipher, self._head = AESGCM(key), hashlib.sha256(head).digest()

    def seal(self, number: int, kind: bytes, data: bytes, also: bytes = b"") -> bytes:
        return self._cipher.encrypt(number.to_bytes(12), data, self._head + kind + also)

    def open(self, number: int, kind: bytes, data: bytes, also: bytes = b"") -> bytes:
        return self._cipher.decrypt(number.to_bytes(12), data, self._head + kind + also)


class Writer:
    """Makes a file, piece by piece. Args: head: without its key; outer: encrypts that key."""

    def __init__(self, head: Head, outer: Sealer) -> None:
        key = AESGCM.generate_key(256)
        self._head = replace(head, key=outer.seal(key, _PLACE).hex()).encoded()
        self._cipher = _Cipher(key, self._head)
        self._digest = hashlib.sha256()
        self._parts = self._keys = 0

    def begin(self) -> bytes:
        """Return the file's first bytes."""
        return self._added(MAGIC + frame(HEAD, self._head))

    def part(self, content: BackupPart) -> bytes:
        """Return a part's bytes."""
        sealed = self._cipher.seal(self._parts, PART, content.SerializeToString())
        self._parts += 1
        self._keys += len(content.entries.entries)
        return self._added(frame(PART, sealed))

    def end(self) -> bytes:
        """Return the file's last bytes."""
        bare = End(self._parts, self._keys, self._digest.hexdigest(), "")
        seal = self._cipher.seal(self._parts, END, b"", bare.encoded())
        return frame(END, replace(bare, seal=seal.hex()).encoded())

    def _added(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data


class Opener(Protocol):
    """Finds what opens a backup's key. Raises BackupError."""

    def __call__(self, head: Head) -> Sealer: ...


class Reader:
    """Reads a file as it comes. Args: opener: asked once the head is there."""

    def __init__(self, opener: Opener) -> None:
        self._opener, self._frames = opener, Frames()
        self.head: Head | None = None
        self._cipher: _Cipher
        self._parts = self._keys = 0

    def feed(self, data: bytes) -> Iterator[BackupPart]:
        """Yield each part that is complete by now. Raises BackupError."""
        for kind, body in self._frames.feed(data):
            if kind == HEAD:
                self._begin(body)
            elif kind == PART:
                yield self._part(body)
            else:
                self._end(body)

    def finish(self) -> Head:
        """Say that the file ends here. Raises BackupError."""
        self._frames.finish()
        if self.head is None:
            raise BackupError("has no head")
        return self.head

    def _begin(self, body: bytes) -> None:
        if self.head is not None:
            raise BackupError("has two heads")
        self.head = Head.decoded(body)
        try:
            key = self._opener(self.head).open(bytes.fromhex(self.head.key), _PLACE)
        except (SealError, ValueError):
            text = (
                "cannot be opened with this passphrase"
                if self.head.with_keys
                else "was made without keys, by a node with another data key (STATE/manager/key)"
            )
            raise BackupError(text) from None
        self._cipher = _Cipher(key, body)

    def _part(self, body: bytes) -> BackupPart:
        try:
            content = BackupPart.FromString(self._cipher.open(self._parts, PART, body))
        except (InvalidTag, DecodeError):
            raise BackupError(f"is damaged: its part {self._parts + 1} is not what was written") from None
        self._parts += 1
        self._keys += len(content.entries.entries)
        return content

    def _end(self, body: bytes) -> None:
        end = End.decoded(body)
        try:
            self._cipher.open(self._parts, END, bytes.fromhex(end.seal), replace(end, seal="").encoded())
        except (InvalidTag, ValueError):
            raise BackupError("is damaged: its end is not what was written") from None
        if (end.parts, end.keys) != (self._parts, self._keys):
            raise BackupError(f"has {self._parts} parts of the {end.parts} that were made")
