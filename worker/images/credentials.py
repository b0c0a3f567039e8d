"""An account of a registry, in memory only."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    """An account of a registry; an identity token stands in place of name and password. Never shown."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token)

    def removed_from(self, text: str) -> str:
        """``text`` with each form of the account's secrets replaced: a registry may say back what it was sent."""
        for secret in (self.basic.split()[1], self.password, self.identity_token):
            if secret:
                text = text.replace(secret, "***")
        return text

    @property
    def basic(self) -> str:
        """The header of RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
