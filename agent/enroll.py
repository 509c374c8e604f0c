"""Enrolling with an invite, and renewing the certificate ever after without a person.

The invite pins the site's issuing CA and the trust bundle's roots. Before the secret is sent, the gateway must show a chain that
ends in the pinned CA, and then prove over a second, verified connection that it holds the key.

Rules:      1. the secret goes only to a gateway under the pinned CA  2. keys are made here and never leave
            3. whatever the site answers is checked against the pins before a file is written
            4. a renewal brings a new TLS key; a failed one costs nothing while the old certificate is valid
Spec:       docs/protocol.md section "Enrolment"; SECURITY 7.3
"""

import asyncio
import hashlib
import secrets
import socket
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.identity import save_files, save_identity
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, IntegrityError, Unavailable
from carnet.flow.client import PeerClient
from carnet.flow.tls import ClientContext
from carnet.identifiers import Digest, SpiffeId
from carnet.identity import AgentIdentity, AgentKeys
from carnet.invite import Invite, encode_secret
from carnet.keys import KemPrivateKey, SigningKey
from carnet.messages import RenewRequest
from carnet.suites import KEY_BYTES

CONNECT_S: Final = 10.0
_HTTPS_PORT = 443
_JITTER_STEPS = 201
"""Renewal falls between 56 % and 77 % of a certificate's life, so that runners of one identity do not all come at once."""


async def enroll(invite: Invite, directory: Path, now: datetime, *, root_fingerprint: Digest | None = None) -> AgentIdentity:
    """Return the new identity, kept in `directory`.

    Steps: (1) the configured roots, if any, are those of the invite; (2) the gateway's chain ends in the pinned CA; (3) keys are
    made; (4) over a connection verified under that CA the invite is used; (5) the answer is checked; (6) the files are written.

    Raises:
        IntegrityError: E-TRUST, E-SIGNATURE if pins, chain or answer do not fit; before step 4 the invite is still good.
        NotAuthorised: E-INVITE if the site refuses the invite.
        Unavailable: E-UNREACHABLE if there is no gateway at the invite's address.
    """
    if root_fingerprint is not None and root_fingerprint != invite.root:  # (1)
        raise IntegrityError("E-TRUST", f"the invite names roots {invite.root}, configured are {root_fingerprint}")
    leaf, authority = await asyncio.to_thread(fetch_chain, invite.url)  # (2)
    if hashlib.sha256(authority.public_bytes(Encoding.DER)).hexdigest() != invite.ca:
        raise IntegrityError(
            "E-TRUST",
            f"the gateway at {invite.url} shows another CA than the invite pins",
            remedy="check the address with the operator; nothing was sent",
        )
    tls_key = ec.generate_private_key(ec.SECP256R1())  # (3)
    signing, kem = SigningKey(secrets.token_bytes(KEY_BYTES)), KemPrivateKey(secrets.token_bytes(KEY_BYTES))
    keys = AgentKeys(signing, kem, _encode_key(tls_key))
    request = keys.request(invite=invite.id, secret=encode_secret(invite.secret), csr=_make_request(tls_key))
    context = ClientContext(None, None, authority.public_bytes(Encoding.PEM).decode("ascii"))
    async with PeerClient([invite.url], context, gateway=_gateway_identity(leaf, invite), connections=1) as client:
        response = await client.enroll(request)  # (4)
    identity = AgentIdentity.create(keys=keys, ca=invite.ca, roots=invite.root, response=response, now=now)  # (5)
    await asyncio.to_thread(save_identity, directory, identity)  # (6)
    return identity


def renewal_time(identity: AgentIdentity) -> datetime:
    """Return when the certificate is due: at two thirds of its life, a tenth earlier or later by its serial number."""
    leaf = identity.leaf
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    spread = hashlib.sha256(str(leaf.serial_number).encode("ascii")).digest()
    part = 2 / 3 + (int.from_bytes(spread[:4], "big") % _JITTER_STEPS / (_JITTER_STEPS - 1) - 0.5) / 5
    return start + timedelta(seconds=(end - start).total_seconds() * part)


async def renew_if_due(identity: AgentIdentity, directory: Path, client: PeerClient, now: datetime) -> AgentIdentity:
    """Return the identity, with a new certificate for a new key if the old one was due; it is kept in `directory` first.

    `client` speaks to the home gateway under the old certificate; its next connection uses the new one.

    Raises:
        Unavailable: E-UNREACHABLE, only if the old certificate has ended.
        NotAuthorised: E-CERTIFICATE if the site does not know this identity (any more).
        IntegrityError: E-TRUST if the answer does not fit the identity.
    """
    if now < renewal_time(identity):
        return identity
    tls_key = ec.generate_private_key(ec.SECP256R1())
    try:
        response = await client.renew(RenewRequest(csr=_make_request(tls_key).decode("ascii")))
    except Unavailable:
        if now < identity.leaf.not_valid_after_utc:
            return identity
        raise
    statement = parse_envelope(response.agent_statement)
    renewed = identity.with_certificate(_encode_key(tls_key), response.certificate.encode("utf-8"), statement)
    changed = {name: data for name, data in renewed.files().items() if name in {"tls.pem", "statement.dsse"}}
    await asyncio.to_thread(save_files, directory, changed)
    return renewed


def fetch_chain(url: str) -> tuple[x509.Certificate, x509.Certificate]:
    """Return leaf and issuer as the gateway at `url` shows them, verified by nobody; nothing but a handshake is sent. Blocks.

    Raises:
        Unavailable: E-UNREACHABLE if nothing answers there.
        IntegrityError: E-TRUST if what answers shows no chain of two certificates.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise CallerError("E-INVITE", f"the invite's address is not https: {ascii(url)[:120]}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pin decides, on what this connection shows; it carries nothing
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or _HTTPS_PORT), timeout=CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as connection,
        ):
            chain = [x509.load_der_x509_certificate(der) for der in _unverified_chain(connection)]
    except (OSError, ValueError) as error:
        raise Unavailable("E-UNREACHABLE", f"no gateway answers at {url}: {error}") from None
    if len(chain) != len(("leaf", "issuer")):
        raise IntegrityError("E-TRUST", f"the gateway at {url} shows {len(chain)} certificates, expected leaf and issuing CA")
    return chain[0], chain[1]


def _unverified_chain(connection: ssl.SSLSocket) -> list[bytes]:
    """Return the DER of each certificate shown. The call is public from Python 3.13; before, the object below has it."""
    public = getattr(connection, "get_unverified_chain", None)
    if public is not None:
        return list(public())
    inner = getattr(connection, "_sslobj")  # noqa: B009 - the name is private in the type stubs
    der = 2  # _ssl.ENCODING_DER
    return [certificate.public_bytes(der) for certificate in inner.get_unverified_chain() or ()]


def _gateway_identity(leaf: x509.Certificate, invite: Invite) -> SpiffeId:
    """Return who the gateway says it is; the verified connection then holds it to that. Only the site is in the invite."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identity = SpiffeId(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
    except (x509.ExtensionNotFound, ValueError, IndexError, CallerError):
        raise IntegrityError("E-TRUST", f"the certificate at {invite.url} names no gateway") from None
    if (identity.kind, identity.name, identity.site) != ("gateway", invite.site, invite.site):
        raise IntegrityError("E-TRUST", f"{identity} answers at {invite.url}, expected the gateway of site {invite.site}")
    return identity


def _encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate request that proves possession of `key` and asks for no name: the site decides it."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM)
