"""The site's own certificate authority: one P-256 issuing CA, and the certificates it decides to issue.

A certificate says one thing, an identity, as exactly one URI name; the CA decides it, never the request. Nothing here reads a
clock or writes a file: callers pass the time and keep the bytes.

Rules:      1. the subject and all names come from the caller, the request gives a public key only  2. ECDSA P-256 or P-384 keys
            3. every certificate starts five minutes early, for clocks that are behind  4. no private key in a repr
Spec:       docs/protocol.md section "Certificates"; RFC 5280; SPIFFE X.509-SVID section 4
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from carnet.errors import CallerError, PeerError
from carnet.identifiers import SiteName, SpiffeId

AUTHORITY_LIFE: Final = timedelta(days=365)
GATEWAY_LIFE: Final = timedelta(days=30)
AGENT_LIFE: Final = timedelta(hours=24)
BACKDATE: Final = timedelta(minutes=5)
CSR_CHARS_MAX: Final = 8_000
_COMMON_NAME_CHARS_MAX = 64


@dataclass(kw_only=True)
class Authority:
    """The issuing CA of one site: its certificate, which the trust bundle carries, and its key. `follow` is its only change."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, site: SiteName, now: datetime) -> Self:
        """Return a new self-signed CA for `site`: P-256, one year, able to issue end certificates only."""
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"carnet {site} issuing CA"[:_COMMON_NAME_CHARS_MAX])])
        builder = (
            _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        return cls(certificate=builder.sign(key, hashes.SHA256()), key=key)

    @classmethod
    def parse(cls, certificate_pem: bytes, key_pem: bytes) -> Self:
        """Return the CA in two PEM texts; raise `CallerError` E-CONFIG if they are not a CA and its key."""
        try:
            certificate, key = x509.load_pem_x509_certificate(certificate_pem), parse_key(key_pem)
        except ValueError:
            raise CallerError("E-CONFIG", "the issuing CA's certificate is not PEM") from None
        if certificate.public_key() != key.public_key():
            raise CallerError("E-CONFIG", "the issuing CA's key is not the key of its certificate")
        return cls(certificate=certificate, key=key)

    def renewed(self, now: datetime) -> x509.Certificate:
        """Return a certificate of one more year for the same key and name: both vouch for whatever that key signed."""
        name = self.certificate.subject
        builder = (
            _builder(name, name, self.key.public_key(), now, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def follow(self, certificate: x509.Certificate) -> None:
        """Issue under another certificate of the same key from now on; raise `CallerError` E-CONFIG for one of another key."""
        if certificate.public_key() != self.key.public_key():
            raise CallerError("E-CONFIG", "the issuing CA's next certificate is not of its key")
        self.certificate = certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate's DER, in hex: what an invite pins."""
        return fingerprint(self.certificate)

    @property
    def pem(self) -> bytes:
        """The CA certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue_gateway(
        self, identity: SpiffeId, key: ec.EllipticCurvePublicKey, hosts: Iterable[str], now: datetime
    ) -> x509.Certificate:
        """Return a certificate of 30 days for a gateway that serves as `hosts` (names and addresses) and calls its peers."""
        names: list[x509.GeneralName] = [_host_name(host) for host in dict.fromkeys(hosts)]
        return self._issue(identity, key, names, now, GATEWAY_LIFE)

    def issue_client(
        self, identity: SpiffeId, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta = AGENT_LIFE
    ) -> x509.Certificate:
        """Return a client certificate for an agent or a person; 24 hours unless the caller says otherwise."""
        return self._issue(identity, key, [], now, life)

    def _issue(
        self, identity: SpiffeId, key: ec.EllipticCurvePublicKey, hosts: list[x509.GeneralName], now: datetime, life: timedelta
    ) -> x509.Certificate:
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"{identity.kind} {identity.name}"[:_COMMON_NAME_CHARS_MAX])]
        )
        # A certificate that outlives its CA would be refused from one second to the next, so it ends with it.
        life = min(life, self.certificate.not_valid_after_utc - now)
        builder = (
            _builder(subject, self.certificate.subject, key, now, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity), *hosts]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
        )
        return builder.sign(self.key, hashes.SHA256())


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the PEM (PKCS #8, not encrypted) of `key`: the secret itself."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the EC key in `pem`; raise `CallerError` E-CONFIG, never showing it, if it is none."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CallerError("E-CONFIG", "a TLS key file holds no EC private key in PEM")
    return key


def encode_chain(*certificates: x509.Certificate) -> bytes:
    """Return certificates as PEM, in the order given: leaf first, then its issuer, so that an invite's pin can be checked."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate's DER, in hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a PEM certificate signing request that proves possession of `key` and asks for no name."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)


def read_request(pem: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a signing request, and nothing else of it.

    Raises:
        PeerError: E-REQUEST if it is too long, is no request, is not signed by its key, or the key is not P-256 or P-384.
    """
    if len(pem) > CSR_CHARS_MAX:
        raise PeerError("E-REQUEST", f"certificate request of {len(pem)} characters, at most {CSR_CHARS_MAX} are read")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = request.public_key()
        proved = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        raise PeerError("E-REQUEST", "not a certificate request in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise PeerError("E-REQUEST", "a certificate is issued for a P-256 or P-384 key only")
    if not proved:
        raise PeerError("E-REQUEST", "the certificate request is not signed by its own key")
    return key


def renewal_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether two thirds of the certificate's life have passed."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= start + (end - start) * 2 / 3


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
