"""When a certificate is renewed: early enough to try for long, and not all nodes' at once."""

from __future__ import annotations

from datetime import datetime

EARLIEST, LATEST = 0.5, 0.8


def renew_at(begins: datetime, ends: datetime, chance: float) -> datetime:
    """Return the time at which to renew a certificate.

    Args:
        begins, ends: its validity.
        chance: drawn evenly from 0 to 1, once a certificate.
    """
    return begins + (ends - begins) * (EARLIEST + (LATEST - EARLIEST) * chance)
