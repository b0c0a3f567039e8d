"""Telling whether a secret changed without the API ever giving it back.

A secret's label holds a salted scrypt hash (RFC 7914) of its content: equal content under the same salt has the same
hash, and a reader of labels must try 4,096 rounds a guess.
"""

from __future__ import annotations

import hashlib


def make(data: bytes, salt: str) -> str:
    """Return "salt:hash" of `data`; `salt` is any text without a colon."""
    # HMAC, which scrypt is made of, takes a key and the same key with zero bytes behind it for one (RFC 2104)
    digest = hashlib.scrypt(hashlib.sha256(data).digest(), salt=salt.encode(), n=4096, r=8, p=1, dklen=16)
    return f"{salt}:{digest.hex()}"


def same(data: bytes, fingerprint: str) -> bool:
    """Return whether `fingerprint` was made of `data`."""
    salt, colon, _ = fingerprint.partition(":")
    return bool(colon) and make(data, salt) == fingerprint
