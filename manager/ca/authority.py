"""An authority signs certificates for nodes and clients.

Keys are of P-256, or stronger where the other side brings one. Of a request (RFC 2986) only the public key is taken:
name, role and addresses are what the manager says they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pycompose.proto.peer import Role
from pycompose.proto.renewal import TOLERANCE
from pycompose.proto.tls import name_of

CERTIFICATE_LIFE, AUTHORITY_LIFE = timedelta(days=90), timedelta(days=20 * 365)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS = 2048


class RequestError(ValueError):
    """A certificate cannot be signed; the message says why."""


@dataclass(frozen=True)
class Subject:
    """Whom a certificate is for: role, own name (a node's id, a client's name), the cluster's id, addresses."""

    role: Role
    name: str
    cluster: str
    addresses: Sequence[str | IPv4Address | IPv6Address] = ()


@dataclass(frozen=True)
class Authority:
    """An authority's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, cluster: str, now: datetime, life: timedelta = AUTHORITY_LIFE) -> Self:
        """Make an authority for a cluster (its id)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "pycompose cluster authority"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
            ]
        )
        usage = {"key_cert_sign": True, "crl_sign": True}
        builder = _begun(name, name, key.public_key(), now - TOLERANCE, now + life)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(**usage), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Self:
        """Read an authority that was stored, or that a person brings (both PEM). Raises RequestError."""
        try:
            found = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RequestError(f"the authority cannot be read: {error}") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise RequestError("the authority's key is no key of an elliptic curve")
        if _bytes(found.public_key()) != _bytes(private.public_key()):
            raise RequestError("the authority's certificate and key do not belong together")
        try:
            signs = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            signs = False
        if not signs:
            raise RequestError("the certificate is no authority's: it may sign no others (basicConstraints, RFC 5280)")
        return cls(found, private)

    @property
    def pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate, DER: what tokens name."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """The key, PEM, unencrypted: seal it before it is stored."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, request: bytes, subject: Subject, now: datetime, life: timedelta = CERTIFICATE_LIFE) -> bytes:
        """Return a certificate (PEM).

        Args:
            request: a certificate request (PEM, PKCS #10), signed with the key that it brings.
            subject: whom the certificate is for, whatever the request says.
            now: the time.
            life: how long it is valid; never longer than the authority itself.

        Raises:
            RequestError: the request is none, its signature is wrong, or its key is too weak.
        """
        public = _public_key(request)
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, subject.name),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(subject.role)),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.cluster),
            ]
        )
        ends = min(now + life, self.certificate.not_valid_after_utc)
        builder = _begun(name, self.certificate.subject, public, now - TOLERANCE, ends)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True, key_encipherment=True), critical=True)
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if subject.role is not Role.CLIENT:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(_names(subject)), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _public_key(request: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    try:
        found = x509.load_pem_x509_csr(request)
        valid = found.is_signature_valid
        public = found.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise RequestError("that is no certificate request (PEM, PKCS #10)") from None
    if not valid:
        raise RequestError("the request is not signed with the key that it brings")
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _CURVES:
        return public
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= _RSA_BITS:
        return public
    raise RequestError(
        f"the request's key is too weak: use a curve of {', '.join(_CURVES)}, or RSA of {_RSA_BITS} bits"
    )


def _names(subject: Subject) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name_of(subject.role))]
    if subject.role is not Role.CLIENT:
        names.append(x509.DNSName(subject.name))
    for address in subject.addresses:
        if isinstance(address, str):
            names.append(x509.DNSName(address))
        else:
            names.append(x509.IPAddress(address))
    return names


def _begun(
    name: x509.Name, issuer: x509.Name, public: CertificatePublicKeyTypes, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)


def _usage(**allowed: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in every})


def _bytes(public: object) -> bytes:
    found: bytes = public.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found
