"""Why a manager cannot be reached over mutual TLS: one sentence for each kind, with its remedy.

gRPC says "failed to connect" for all of them. When it did, the connection is made once more by hand, step by step
(name, TCP, the manager's certificate, ours), and the first step that fails is the reason. Codes of verification are
OpenSSL's (X509_STORE_CTX_get_error(3)), alerts TLS's (RFC 8446, 6).
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

from pycompose.compose.client.addresses import Address
from pycompose.compose.client.contexts import CA, CERT, KEY

SECONDS = 3.0
MANAGER_NAME = "manager.pycompose"
"""In every manager's certificate: a client knows a manager by the CA and by this, whatever its address."""
EXPIRED, NOT_YET, NO_ISSUER, SELF_SIGNED, SELF_SIGNED_IN_CHAIN, NO_LEAF, OTHER_NAME = 10, 9, 20, 18, 19, 21, 62


def tcp_problem(error: OSError) -> str:
    """Return what an error of connecting means."""
    if isinstance(error, socket.gaierror):
        return "its name is not known; write its address, or mend the name's entry"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: its manager does not run (pycompose node start), or the port is another"
    if isinstance(error, TimeoutError):
        return "no answer: the machine is off, or a firewall is between"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "no route to it: the machine is off, or the network between is"
    return error.strerror or str(error)


def why(address: Address, folder: Path | None, now: float | None = None) -> str:
    """Connect by hand; return what is wrong, "" when nothing is.

    Args:
        address: of kind tcp.
        folder: with the client's certificate, key and CA; None: it has none.
        now: seconds since the epoch by this machine's clock; default: its clock.
    """
    try:
        connection = socket.create_connection((address.host, address.port), SECONDS)
    except OSError as error:
        return tcp_problem(error)
    with connection:
        if folder is None:
            return ""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(folder / CA)
            context.load_cert_chain(folder / CERT, folder / KEY)
            context.set_alpn_protocols(["h2"])
        except (OSError, ValueError) as error:
            return f"the context's certificate cannot be read ({error}); import it anew"
        return _handshake(connection, context, folder, now or time.time())


def _handshake(connection: socket.socket, context: ssl.SSLContext, folder: Path, now: float) -> str:
    try:
        with context.wrap_socket(connection, server_hostname=MANAGER_NAME) as wrapped:
            # with TLS 1.3 the server's word about our certificate comes after the handshake
            wrapped.settimeout(SECONDS)
            if wrapped.recv(1):
                return ""
    except ssl.SSLCertVerificationError as error:
        return _theirs(error.verify_code, error.verify_message, now)
    except ssl.SSLError as error:
        return ours(error.reason or str(error), validity(folder / CERT), now)
    except TimeoutError:
        return "it accepts connections and says nothing: its manager hangs; restart it there: pycompose node restart"
    except OSError:
        return "it hangs up: what listens there is no manager, or its manager is just starting"
    # BoringSSL's servers close without an alert when they do not accept a certificate
    return ours("BAD_CERTIFICATE", validity(folder / CERT), now)


def _theirs(code: int, text: str, now: float) -> str:
    """Return what is wrong with the manager's certificate."""
    clock = f"this machine's clock says {_date(now)}"
    if code == EXPIRED:
        return f"its certificate has expired; {clock}: set it if it is wrong, else restart that node, which renews it"
    if code == NOT_YET:
        return f"its certificate is not valid yet; {clock}: one of the two clocks is wrong, set it"
    if code in (NO_ISSUER, SELF_SIGNED, SELF_SIGNED_IN_CHAIN, NO_LEAF, 7):
        return (
            "its certificate is of another CA than this context's: it is of another cluster, or the CA was changed; "
            "on a manager make a context anew: pycompose context create NAME --from-node"
        )
    if code == OTHER_NAME:
        return "what answers is a node, but no manager; name a manager"
    return f"its certificate is not accepted: {text}"


def ours(reason: str, valid: tuple[float, float] | None, now: float) -> str:
    """Return what is wrong with the client's certificate, from the server's alert.

    Args:
        reason: OpenSSL's word for the alert ("SSLV3_ALERT_CERTIFICATE_EXPIRED").
        valid: when the certificate begins and ends, seconds since the epoch; None: not known.
        now: by this machine's clock.
    """
    word = reason.upper().replace(" ", "_")
    again = "on a manager make a context anew: pycompose context create NAME --from-node"
    if valid is not None and now > valid[1]:
        return f"this context's certificate expired on {_date(valid[1])} (now {_date(now)}); {again}"
    if "CERTIFICATE_EXPIRED" in word:
        return f"it says that this context's certificate has expired; one of the two clocks is wrong, or {again}"
    if "UNKNOWN_CA" in word:
        return f"it does not know the CA of this context's certificate: it is of another cluster; {again}"
    if "BAD_CERTIFICATE" in word or "CERTIFICATE_UNKNOWN" in word or "CERTIFICATE_REQUIRED" in word:
        return f"it refuses this context's certificate; if its clock is right, {again}"
    if "WRONG_VERSION" in word or "UNKNOWN_PROTOCOL" in word or "RECORD_LAYER" in word:
        return "it speaks no TLS: what listens there is no manager; look at the port"
    return f"TLS fails: {reason}"


def validity(path: Path) -> tuple[float, float] | None:
    """Return when a certificate begins and ends, in seconds since the epoch; None when it cannot be read."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
