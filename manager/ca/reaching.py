"""Whether an address leads to the machine that says so: a TLS handshake, in which the machine must show its key.

A machine that joins has no certificate yet; it listens with one that it signed itself, with the key of its request.
So nothing is believed of that certificate but its key, and that is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pycompose.proto.refusal import BlockedError
from pycompose.proto.tls import why

SECONDS = 5.0


async def dial_back(host: str, port: int, request: bytes, seconds: float = SECONDS) -> None:
    """Connect to a machine's worker. Raises BlockedError.

    Args:
        host, port: where it says that it listens.
        request: its certificate request (PEM).
        seconds: how long to wait for it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError:
        raise _unreachable(where, f"no answer within {seconds:.0f} s") from None
    except OSError as error:
        raise _unreachable(where, why(error)) from None
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    key = x509.load_pem_x509_csr(request).public_key()
    if shown is None or _bytes(x509.load_der_x509_certificate(shown).public_key()) != _bytes(key):
        raise _unreachable(where, "another program or machine answers there")


def _unreachable(where: str, reason: str) -> BlockedError:
    return BlockedError(
        f"the manager cannot reach this machine at {where} ({reason}); open that port, or give an address that the "
        "other nodes reach with --advertise-addr ADDRESS",
        "UNREACHABLE",
        where,
    )


def _bytes(key: object) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return found
