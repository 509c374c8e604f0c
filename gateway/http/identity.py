"""Who is calling: one SPIFFE identity from the leaf certificate of the connection, judged anew at each request.

TLS has checked signature, dates and purpose against every issuing CA we know. That is not enough: any of those CAs could name
an identity of another site. Here the leaf must be issued directly by the CA of the very site that it names.

Rules:      1. exactly one URI SAN, and it is a SPIFFE id of our trust domain  2. identities of our own site are issued by our
            own issuing CA  3. of a peer site only `gateway/<site>` is known, issued by the CA in the trust bundle
            4. validity and revocation are judged at request time, so an open connection does not outlive its certificate
Source:     SECURITY 7.2, 7.3; SPIFFE X.509-SVID section 2
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from carnet.errors import CallerError, NotAuthenticated
from carnet.identifiers import SiteName, SpiffeId
from carnet.timestamps import format_time

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_LEAVES_MAX: Final = 4_096
_CERTIFICATE_BYTES_MAX: Final = 16_384
_UNREADABLE: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
"""What the library raises for a certificate that we do not understand; they share no base."""


@dataclass(frozen=True)
class Leaf:
    """A parsed leaf certificate; whose CA issued it is not yet known."""

    identity: SpiffeId
    certificate: x509.Certificate


class Authenticator:
    """Turns leaf certificates into identities; knows the site, its CA and, through `peer_ca`, those of the peers."""

    def __init__(
        self,
        *,
        site: SiteName,
        trust_domain: str,
        own_ca: str,
        peer_ca: Callable[[SiteName], str | None],
        check_leaf: Callable[[SpiffeId, datetime], None] = lambda _identity, _not_before: None,
    ) -> None:
        """`own_ca` is PEM; `peer_ca` returns the PEM that the trust bundle holds for a site now, or None.

        `check_leaf` gets identity and begin of each leaf, and raises `NotAuthenticated` if it was revoked.
        """
        self._check_leaf = check_leaf
        self._site = site
        self._trust_domain = trust_domain
        self._own_ca = own_ca
        self._peer_ca = peer_ca
        self._leaves: OrderedDict[bytes, Leaf] = OrderedDict()
        self._issued: OrderedDict[tuple[bytes, str], None] = OrderedDict()

    def follow(self, own_ca: str) -> None:
        """Take another certificate (PEM) of the site's own CA from now on."""
        self._own_ca = own_ca

    def identify(self, der: bytes | None, now: datetime) -> SpiffeId:
        """Return the identity of the leaf `der` at `now`; raise `NotAuthenticated` naming what is wrong with it."""
        if der is None:
            raise NotAuthenticated("E-NO-CERTIFICATE", "no client certificate was presented")
        leaf = self._leaf(der)
        begin, end = leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc
        if not begin <= now <= end:
            raise NotAuthenticated(
                "E-CERTIFICATE",
                f"the certificate of {leaf.identity} is not valid now: it is from {format_time(begin)} to {format_time(end)}, "
                f"the clock of this site shows {format_time(now)}",
            )
        self._check_issuer(der, leaf, now)
        self._check_leaf(leaf.identity, leaf.certificate.not_valid_before_utc)
        return leaf.identity

    def _leaf(self, der: bytes) -> Leaf:
        leaf = self._leaves.get(der)
        if leaf is None:
            leaf = parse_leaf(der)
            _remember(self._leaves, der, leaf)
        return leaf

    def _check_issuer(self, der: bytes, leaf: Leaf, now: datetime) -> None:
        """Refuse a leaf that the CA of the site it names did not issue."""
        authority = self._authority(leaf.identity)
        if (der, authority) in self._issued:
            return
        try:
            issuer = x509.load_pem_x509_certificate(authority.encode("ascii"))
            leaf.certificate.verify_directly_issued_by(issuer)
        except (*_UNREADABLE, TypeError, InvalidSignature):
            raise NotAuthenticated(
                "E-CERTIFICATE", f"the certificate of {leaf.identity} was not issued by the CA of site {leaf.identity.site}"
            ) from None
        if not issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc:
            raise NotAuthenticated("E-CERTIFICATE", f"the issuing CA of site {leaf.identity.site} is not valid now")
        _remember(self._issued, (der, authority), None)

    def _authority(self, identity: SpiffeId) -> str:
        """Return the PEM of the CA that may issue this identity; raise `NotAuthenticated` if none may."""
        if identity.trust_domain != self._trust_domain:
            raise NotAuthenticated("E-CERTIFICATE", f"{identity} is not of trust domain {self._trust_domain}")
        if identity.site == self._site:
            if identity.kind == "gateway":
                raise NotAuthenticated("E-CERTIFICATE", f"{identity} is this gateway itself")
            return self._own_ca
        if identity.kind != "gateway" or identity.name != identity.site:
            raise NotAuthenticated("E-CERTIFICATE", f"{identity} belongs to another site; here it has no account")
        authority = self._peer_ca(identity.site)
        if authority is None:
            raise NotAuthenticated("E-CERTIFICATE", f"site {identity.site} is not in the trust bundle")
        return authority


def parse_leaf(der: bytes) -> Leaf:
    """Return identity and certificate of a leaf; raise `NotAuthenticated` E-CERTIFICATE if it is not one of ours (rule 1)."""
    if len(der) > _CERTIFICATE_BYTES_MAX:
        raise NotAuthenticated("E-CERTIFICATE", f"a client certificate of {len(der)} bytes is too large")
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except _UNREADABLE:
        raise NotAuthenticated("E-CERTIFICATE", "the client certificate cannot be read, or lacks a name or a purpose") from None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise NotAuthenticated("E-CERTIFICATE", "the client certificate is not for clients")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise NotAuthenticated("E-CERTIFICATE", f"the client certificate has {len(uris)} URI names, expected 1")
    try:
        return Leaf(SpiffeId(uris[0]), certificate)
    except CallerError as error:
        raise NotAuthenticated("E-CERTIFICATE", error.problem) from None


def _remember(cache: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep `value`, forgetting the oldest beyond the bound."""
    cache[key] = value
    if len(cache) > _LEAVES_MAX:
        cache.popitem(last=False)
