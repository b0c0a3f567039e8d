"""Who signed a certificate and whom its holder believes, in one word: so that a manager sees that a node is behind."""

from __future__ import annotations

import hashlib

from pycompose.proto.tls import Identity


def fingerprint(signer: bytes, authorities: bytes) -> str:
    """Return the word.

    Args:
        signer: the key identifier of the authority that signs (RFC 5280, 4.2.1.2: SHA-1 of its public key).
        authorities: certificates that are believed, PEM, in any order.

    Raises:
        ValueError: there are none in it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    found = {one.fingerprint(hashes.SHA256()) for one in x509.load_pem_x509_certificates(authorities)}
    return hashlib.sha256(signer + b"".join(sorted(found))).hexdigest()[:32]


def of_identity(identity: Identity) -> str:
    """Return the word for a certificate and what lies beside it. Raises ValueError: it is none of a cluster's."""
    from cryptography import x509

    extensions = x509.load_pem_x509_certificate(identity.certificate).extensions
    try:
        signer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        signer = None
    return fingerprint(signer or b"", identity.authorities)
