"""Encryption of secrets at rest: AES-256-GCM, with a key file that only root can read.

The key's name is authenticated with the data, so that one secret's bytes cannot be put in another's place.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12


class SealError(Exception):
    """A secret cannot be read: the key file is missing, wrong, or the data was changed."""


class Sealer:
    """Seals with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self._cipher = AESGCM(key)

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """Read the key from `path`, or make it (0600). Raises SealError when it is not 32 bytes."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
            if len(key) != 32:
                raise SealError(f"{path}: the key has {len(key)} bytes, not 32; restore it from a backup") from None
            return cls(key)
        key = AESGCM.generate_key(256)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return cls(key)

    def seal(self, data: bytes, name: str) -> bytes:
        """Return `data` encrypted for the place `name`."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, data, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """Return the data. Raises SealError."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], name.encode())
        except InvalidTag:
            raise SealError(f"{name}: cannot be decrypted; the key file does not fit the store") from None
