"""Join tokens: ``PYC1-DIGEST-SECRET``.

The digest is the authority's certificate's (SHA-256, in base 36): by it a machine that knows nothing else yet knows
the right cluster's manager from any other. The secret says as what the machine may join; each role has one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from dataclasses import dataclass
from typing import Self

_VERSION, _DIGITS = "PYC1", string.digits + string.ascii_lowercase
_DIGEST, _SECRET = 50, 25


class TokenError(ValueError):
    """The text is no token; the message says why."""


@dataclass(frozen=True)
class Token:
    """A token's two halves."""

    digest: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a token apart. Raises TokenError."""
        parts = text.strip().split("-")
        if parts[0] != _VERSION:
            raise TokenError(f"a join token begins with {_VERSION}-; print it with: pycompose cluster token worker")
        sizes = [len(part) for part in parts[1:]]
        if sizes != [_DIGEST, _SECRET] or not set("".join(parts[1:])) <= set(_DIGITS):
            raise TokenError("the join token is not whole; copy it again from: pycompose cluster token worker")
        return cls(*parts[1:])

    def __str__(self) -> str:
        return f"{_VERSION}-{self.digest}-{self.secret}"

    def is_of(self, authority: bytes) -> bool:
        """Whether the token names this authority (DER)."""
        return hmac.compare_digest(self.digest, digest(authority))


def digest(authority: bytes) -> str:
    """Return how tokens name an authority (DER)."""
    number, text = int.from_bytes(hashlib.sha256(authority).digest()), ""
    for _ in range(_DIGEST):
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def new_secret() -> str:
    """Return the second half of a new token: 129 bits of chance."""
    return "".join(secrets.choice(_DIGITS) for _ in range(_SECRET))
