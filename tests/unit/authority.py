"""Certificates for tests: an authority, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """A CA whose certificates are made as the cluster's are: CN, OU = role, O = cluster, SAN = role.pycompose."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        now = datetime.now(UTC)
        self._certificate = (
            self._builder(self._name, self._key, now - DAY, now + 365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    def issue(self, role: str, begin: timedelta = -DAY, end: timedelta = 30 * DAY) -> tuple[bytes, bytes]:
        """Return certificate and key of a role, valid from and to these times from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = {NameOID.COMMON_NAME: "one", NameOID.ORGANIZATIONAL_UNIT_NAME: role, NameOID.ORGANIZATION_NAME: "c"}
        subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in names.items()])
        now = datetime.now(UTC)
        certificate = (
            self._builder(subject, key, now + begin, now + end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{role}.pycompose")]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        plain = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), plain

    def client(self, folder: Path, begin: timedelta = -DAY, end: timedelta = 30 * DAY) -> Path:
        """Write a client's three files; return their folder."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = self.issue("client", begin, end)
        for name, data in (("cert.pem", certificate), ("key.pem", key), ("ca.pem", self.pem)):
            (folder / name).write_bytes(data)
        return folder
