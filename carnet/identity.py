"""An agent's identity as a set of named files: its keys, its certificate, what its site states about it, what it trusts.

Both ends write it: the agent when it enrols, the site when it makes a ready-to-use one for trying out. Reading and writing the
directory is theirs; here is what the files hold and how they fit together.

Rules:      1. keys, statement and certificate are of one identity, or it is refused  2. the pinned roots are kept beside the
            bundle, which only `TrustedState` advances  3. TLS key and chain are one file, so a renewal is one rename
Layout:     agent.key, kem.key: key lines | tls.pem: PKCS #8 key, leaf, issuing CA | statement.dsse, trust.dsse: envelopes |
            identity.json: {ca, identity, roots, v}
Spec:       docs/operations.md section "Identity directory"
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, IntegrityError, PeerError
from carnet.identifiers import Digest, SpiffeId
from carnet.keys import KemPrivateKey, PrivateKey, SigningKey, encode_private_key, parse_private_key
from carnet.limits import KIB, STATEMENT_BYTES_MAX, TRUST_BUNDLE_BYTES_MAX
from carnet.messages import EnrollRequest, EnrollResponse
from carnet.statement import Hex32, WireModel, parse_model
from carnet.trust import AgentStatement, TrustBundle, TrustedState, open_agent_statement

FILE_BYTES_MAX: Final[dict[str, int]] = {
    "agent.key": 4 * KIB,
    "kem.key": 4 * KIB,
    "tls.pem": 128 * KIB,
    "statement.dsse": STATEMENT_BYTES_MAX,
    "trust.dsse": TRUST_BUNDLE_BYTES_MAX,
    "identity.json": 4 * KIB,
}
"""Every file of an identity directory and the most bytes that are read of it."""
_PEM_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_REFUSALS = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for certificates and keys that are not what they should be."""


class _IdentityFile(WireModel):
    """`identity.json`: what the other files are checked against."""

    v: Literal[1] = 1
    identity: SpiffeId
    ca: Hex32
    roots: Digest


@dataclass(frozen=True, kw_only=True)
class AgentIdentity:
    """An enrolled agent. Made by `create` or `parse`, both of which check that the pieces belong together."""

    id: SpiffeId
    signing_key: SigningKey
    kem_key: KemPrivateKey
    tls_pem: bytes = field(repr=False)
    """TLS key and certificate chain, PEM: what `ssl.SSLContext.load_cert_chain` takes as one file."""
    ca: str
    """SHA-256 of the DER of the issuing CA that was pinned at enrolment, hex."""
    statement: Envelope = field(repr=False)
    bundle: Envelope = field(repr=False)
    trust: TrustedState = field(repr=False)

    @classmethod
    def create(
        cls,
        *,
        keys: "AgentKeys",
        ca: str,
        roots: Digest,
        response: EnrollResponse,
        now: datetime,
    ) -> Self:
        """Return the identity that an enrolment gave, after checking all of it; nothing the site says is taken on trust.

        Steps: (1) the bundle is signed by the pinned roots; (2) the statement is signed by its site as the bundle names it;
        (3) it states our keys; (4) the certificate is for our TLS key and that identity, issued by the pinned CA, which is the
        bundle's for that site.

        Raises:
            IntegrityError: E-SIGNATURE, E-TRUST for whatever does not fit. PeerError: E-FORMAT. Held: E-TRUST-EXPIRED.
        """
        bundle, statement = (
            parse_envelope(response.bundle, bytes_max=TRUST_BUNDLE_BYTES_MAX),
            parse_envelope(response.agent_statement),
        )
        trust = TrustedState(roots).accept(bundle, now)  # (1)
        identity = cls(
            id=AgentStatement.read_unverified(statement).identity,
            signing_key=keys.signing,
            kem_key=keys.kem,
            tls_pem=keys.tls_pem + response.certificate.encode("utf-8"),
            ca=ca,
            statement=statement,
            bundle=bundle,
            trust=trust,
        )
        _check(identity)  # (2) to (4)
        issuer = _chain(identity.tls_pem)[1]
        if _fingerprint(issuer) != ca or issuer != x509.load_pem_x509_certificate(identity.authority_pem.encode("ascii")):
            raise IntegrityError("E-TRUST", "the issuing CA is not the one that invite and trust bundle name")
        return identity

    @classmethod
    def parse(cls, files: Mapping[str, bytes]) -> Self:
        """Return the identity in the named files; raise `CallerError` E-NOT-ENROLLED naming the first file that does not fit."""
        for name, bytes_max in FILE_BYTES_MAX.items():
            if name not in files or len(files[name]) > bytes_max:
                raise CallerError("E-NOT-ENROLLED", f"identity file {name} is missing or too long")
        about = parse_model(_IdentityFile, files["identity.json"], bytes_max=FILE_BYTES_MAX["identity.json"])
        bundle = parse_envelope(files["trust.dsse"], bytes_max=TRUST_BUNDLE_BYTES_MAX)
        signing_key, kem_key = _key(files, "agent.key"), _key(files, "kem.key")
        if not isinstance(signing_key, SigningKey) or not isinstance(kem_key, KemPrivateKey):
            raise CallerError("E-NOT-ENROLLED", "agent.key holds no signing key, or kem.key no KEM key")
        identity = cls(
            id=about.identity,
            signing_key=signing_key,
            kem_key=kem_key,
            tls_pem=files["tls.pem"],
            ca=about.ca,
            statement=parse_envelope(files["statement.dsse"]),
            bundle=bundle,
            trust=TrustedState(about.roots, TrustBundle.read_unverified(bundle)),
        )
        _check(identity)
        return identity

    def files(self) -> dict[str, bytes]:
        """Return the content of every file of the directory, by name. Some are secrets."""
        about = _IdentityFile(identity=self.id, ca=self.ca, roots=self.trust.pinned)
        return {
            "agent.key": encode_private_key(self.signing_key).encode("ascii"),
            "kem.key": encode_private_key(self.kem_key).encode("ascii"),
            "tls.pem": self.tls_pem,
            "statement.dsse": self.statement.encode(),
            "trust.dsse": self.bundle.encode(),
            "identity.json": about.encode(),
        }

    @property
    def leaf(self) -> x509.Certificate:
        """The agent's own certificate."""
        return _chain(self.tls_pem)[0]

    @property
    def authority_pem(self) -> str:
        """The site's issuing CA as the trust bundle names it now: the only one its gateway is trusted by."""
        return self.trust.current.site(self.id.site).tls_ca

    def with_certificate(self, tls_key: bytes, chain: bytes, statement: Envelope) -> "AgentIdentity":
        """Return the identity after a renewal; raises as `create` for what does not fit."""
        renewed = replace(self, tls_pem=tls_key + chain, statement=statement)
        _check(renewed)
        return renewed

    def with_bundle(self, bundle: Envelope, now: datetime) -> "AgentIdentity":
        """Return the identity with a newer trust bundle, or this one if it is the same; raises as `TrustedState.accept`."""
        trust = self.trust.accept(bundle, now)
        return self if trust is self.trust else replace(self, bundle=bundle, trust=trust)


@dataclass(frozen=True)
class AgentKeys:
    """The keys that a new agent made, before any site knows them."""

    signing: SigningKey
    kem: KemPrivateKey
    tls_pem: bytes = field(repr=False)
    """The TLS key, PKCS #8 PEM."""

    def request(self, *, invite: str, secret: str, csr: bytes) -> EnrollRequest:
        """Return the request that presents the public halves with an invite's id and secret."""
        return EnrollRequest(
            invite=invite,
            secret=secret,
            csr=csr.decode("ascii"),
            signing_key=self.signing.public.hex,
            kem_key=self.kem.public.hex,
        )


def _check(identity: AgentIdentity) -> None:
    """Raise unless statement (2), stated keys (3) and certificate (4) are of this one identity."""
    statement = open_agent_statement(identity.statement, identity.trust.current)  # (2)
    stated = (statement.identity, statement.signing_key, statement.kem_key)
    if stated != (identity.id, identity.signing_key.public, identity.kem_key.public):  # (3)
        raise IntegrityError("E-TRUST", f"the site's statement is not about the keys of {identity.id}")
    leaf, issuer = _chain(identity.tls_pem)  # (4)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        leaf.verify_directly_issued_by(issuer)
    except _REFUSALS:
        raise IntegrityError("E-TRUST", "the certificate is not issued by the CA in its chain, or names nobody") from None
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [identity.id]:
        raise IntegrityError("E-TRUST", f"the certificate does not name {identity.id}")


def _chain(tls_pem: bytes) -> tuple[x509.Certificate, x509.Certificate]:
    """Return leaf and issuing CA, after checking that the key in front of them is the leaf's."""
    key_pem, mark, rest = tls_pem.partition(_PEM_CERTIFICATE)
    try:
        leaf, issuer = x509.load_pem_x509_certificates(mark + rest)
        matches = _spki(load_pem_private_key(key_pem, password=None).public_key()) == _spki(leaf.public_key())
    except _REFUSALS:
        raise IntegrityError("E-TRUST", "tls.pem is not a key, its certificate and the issuing CA") from None
    if not matches:
        raise IntegrityError("E-TRUST", "the key in tls.pem is not its certificate's")
    return leaf, issuer


def _spki(key: object) -> bytes:
    """Return the DER of a public key, so that two key objects can be compared."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("a TLS key of ours is an EC key")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _key(files: Mapping[str, bytes], name: str) -> PrivateKey:
    try:
        return parse_private_key(files[name].decode("ascii"))
    except (PeerError, UnicodeDecodeError):
        raise CallerError("E-NOT-ENROLLED", f"identity file {name} holds no key") from None
