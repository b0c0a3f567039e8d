"""Mutual TLS between nodes and for remote clients: files of an identity, and gRPC credentials made of it.

A certificate names its holder (CN), the holder's role (OU: manager, worker or client) and the cluster (O); its
alternative names are the holder's own, ``ROLE.pycompose`` and, of a node, its address. Whoever connects checks the
authority and one of the names, never an address alone: addresses move.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from pycompose.proto.files import replace, sync_folder

CERTIFICATE, KEY, AUTHORITIES = "cert.pem", "key.pem", "ca.pem"
#: There while the three are written: what they will be.
NEXT = "next.json"


def why(error: OSError) -> str:
    """Return the reason of a failure to connect or to listen, as errno(3) has it."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def name_of(role: str) -> str:
    """Return the name that every certificate of a role has."""
    return f"{role}.pycompose"


@dataclass(frozen=True)
class Identity:
    """One party's certificate, its key, and the authorities that it believes; all PEM (RFC 7468).

    `authorities` holds two certificates while a cluster changes its authority.
    """

    certificate: bytes
    key: bytes
    authorities: bytes

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the three files of a folder, all of one writing, also where that was cut short. Raises OSError."""
        while True:
            with contextlib.suppress(FileNotFoundError):
                return cls(**{name: text.encode() for name, text in json.loads((folder / NEXT).read_text()).items()})
            found = cls(*((folder / name).read_bytes() for name in (CERTIFICATE, KEY, AUTHORITIES)))
            if not (folder / NEXT).exists() and (folder / CERTIFICATE).read_bytes() == found.certificate:
                return found

    def store(self, folder: Path) -> None:
        """Write the three files, 0600: all of them, or none. Raises OSError.

        What is in them is in one file before: to have renamed that is to have written them.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace(folder / NEXT, json.dumps({name: text.decode() for name, text in vars(self).items()}).encode())
        for name, data in ((AUTHORITIES, self.authorities), (KEY, self.key), (CERTIFICATE, self.certificate)):
            replace(folder / name, data)
        (folder / NEXT).unlink()
        sync_folder(folder)


def new_request() -> tuple[bytes, bytes]:
    """Return a new key of P-256 and a request for its certificate (RFC 2986), both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return plain, request.public_bytes(serialization.Encoding.PEM)


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Return what a client connects with; the channel names whom it expects by `expecting`."""
    return grpc.ssl_channel_credentials(identity.authorities, identity.key, identity.certificate)


def expecting(name: str) -> tuple[str, str]:
    """Return the channel option that holds the server to a name: a node's id, or `name_of` a role."""
    return ("grpc.ssl_target_name_override", name)


def server_credentials(current: Callable[[], Identity], *, mutual: bool = True) -> grpc.ServerCredentials:
    """Return what a server shows, and asks for.

    Args:
        current: the identity now; it is asked at each connection, so that a renewed certificate needs no restart.
        mutual: refuse whoever shows no certificate of an authority that `current` names.
    """
    shown: list[Identity] = []

    def configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
        pairs = [(identity.key, identity.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs, identity.authorities if mutual else None)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        identity = current()
        if shown == [identity]:
            return None  # gRPC keeps what it has
        shown[:] = [identity]
        return configuration(identity)

    shown[:] = [current()]
    return grpc.dynamic_ssl_server_credentials(configuration(shown[0]), fetch, mutual)  # type: ignore[arg-type]
