"""TLS as a client of a gateway speaks it: 1.3 only, one site's CA, one expected identity.

The gateway's certificate must come from the issuing CA that the trust bundle (or, before enrolment, the invite) names for the
site, name the host that was dialled, and carry the site's gateway identity as its one URI name. The system's CAs are never asked.

Rules:      1. anchors are given as PEM, never the system's  2. host name and URI name are both checked
            3. a renewed certificate on disk is used by the next new connection
Spec:       docs/protocol.md section "Transport"; RFC 8446; SPIFFE X.509-SVID section 5
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carnet.errors import CallerError, NotAuthenticated
from carnet.identifiers import SpiffeId

_REMEDY = "check the address; the certificate there must be issued by the CA that the trust bundle names for the site"


def client_context(certificate: Path | None, key: Path | None, ca_pem: str) -> ssl.SSLContext:
    """Return a context that trusts `ca_pem` only and presents `certificate` (leaf first), if there is one yet.

    `key` None means that the certificate's file has the key too. Raises `CallerError` E-CONFIG if a file does not load.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cadata=ca_pem)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise CallerError("E-CONFIG", f"the TLS certificate {certificate} does not load: {type(error).__name__}") from None
    return context


class ClientContext:
    """A factory of contexts: the same one until a file changes, then a new one. Owned by one client."""

    def __init__(self, certificate: Path | None, key: Path | None, ca_pem: str) -> None:
        """Take the arguments of `client_context`; nothing is read before the first call."""
        self._certificate = certificate
        self._key = key
        self._ca_pem = ca_pem
        self._stamp: tuple[tuple[int, int, int], ...] | None = None
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Return the context for a new connection; raises like `client_context`, but keeps a working one on a failed renewal."""
        stamp = self._stamps()
        if self._context is not None and stamp == self._stamp:
            return self._context
        try:
            self._context, self._stamp = client_context(self._certificate, self._key, self._ca_pem), stamp
        except CallerError:
            # Certificate and key are two files: between the two renames they do not match. The next call tries again.
            if self._context is None:
                raise
        return self._context

    def _stamps(self) -> tuple[tuple[int, int, int], ...] | None:
        try:
            found = [path.stat() for path in (self._certificate, self._key) if path is not None]
        except OSError:
            return None
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


def check_gateway(certificate: Mapping[str, Any] | None, expected: SpiffeId) -> None:
    """Return if a verified peer certificate (as `getpeercert` shows it) is `expected`'s; raise `NotAuthenticated` otherwise."""
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]
    if names != [str(expected)]:
        raise NotAuthenticated("E-CERTIFICATE", f"the gateway is {ascii(names)[:200]}, expected {expected}", remedy=_REMEDY)


def explain_tls(error: ssl.SSLError, where: str) -> NotAuthenticated:
    """Return what a failed handshake means: theirs did not verify, or ours was refused."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotAuthenticated(
            "E-CERTIFICATE", f"the certificate of {where} does not verify: {error.verify_message}", remedy=_REMEDY
        )
    reason = (error.reason or "no reason given").lower().replace("_", " ")
    return NotAuthenticated("E-CERTIFICATE", f"TLS with {where} failed: {reason}")
