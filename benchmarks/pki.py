"""Throw-away certificates (P-256) for the rivals' mutual TLS: an authority, a server, a client."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=2)


@dataclass(frozen=True)
class Pki:
    """Where the files are; `client_both` has certificate and key in one, as some want it."""

    ca: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path
    client_both: Path


def make_pki(directory: Path, address: str) -> Pki:
    """Write all of them into `directory`, the server's for `address`."""
    directory.mkdir(parents=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("bench authority", ca_key.public_key(), ca_key, None)
    made = Pki(*(directory / name for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key", "both.pem")))
    made.ca.write_bytes(_pem(authority))
    for name, certificate, key_path in (
        (address, made.server_certificate, made.server_key),
        ("bench client", made.client_certificate, made.client_key),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate.write_bytes(_pem(_certificate(name, key.public_key(), ca_key, authority)))
        key_path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        key_path.chmod(0o600)
    made.client_both.write_bytes(made.client_certificate.read_bytes() + made.client_key.read_bytes())
    made.client_both.chmod(0o600)
    return made


def _certificate(
    name: str, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None
) -> x509.Certificate:
    """Issue one; without an issuer it is the authority's own."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name.replace(" ", "-"))
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
