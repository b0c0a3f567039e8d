"""When a certificate is renewed: early enough to try for long, and not all nodes' at once."""

from __future__ import annotations

from datetime import datetime, timedelta

#: Clocks of nodes may differ: a new certificate is valid since an hour.
TOLERANCE = timedelta(hours=1)
EARLIEST, LATEST = 0.5, 0.8


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """Return from when to when a certificate (PEM) is valid. Raises ValueError: it is none."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc, found.not_valid_after_utc


def renew_at(certificate: bytes, chance: float) -> datetime:
    """Return the time at which to renew a certificate. Raises ValueError: it is none.

    Args:
        certificate: as this cluster's authorities make them (PEM): made TOLERANCE after it began to be valid.
        chance: drawn evenly from 0 to 1, once a certificate.
    """
    begins, ends = validity(certificate)
    made = min(begins + TOLERANCE, ends)
    return made + (ends - made) * (EARLIEST + (LATEST - EARLIEST) * chance)


def pause(due: datetime, now: datetime, longest: float, shortest: float = 0.2) -> float:
    """Return for how many seconds to sleep before looking again whether something is due."""
    return min(longest, max(shortest, (due - now).total_seconds() / 2))
