"""TLS as the server speaks it, and its renewal without a restart.

A client certificate is asked for, not required: the edge requires it path by path, so that a client without one reads a problem
document, not a TLS alert. One live context serves all listeners. A renewed certificate and new trust anchors take effect for new
connections at once. An anchor cannot be taken out of a live context; it does not have to be: the edge checks at every request
that the leaf was issued by the CA that the trust bundle names for its site now.

Rules:      1. TLS 1.3 only, no session tickets  2. anchors are the issuing CAs of known sites, never the system's
            3. a new pair that does not load leaves the old one in use
Source:     SECURITY 7.3 (`sni_callback` and another context would not apply its flags)
"""

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from carnet.errors import CallerError
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger


class ServerContext:
    """The listener's TLS context; `refresh` follows files and trust bundle."""

    def __init__(self, *, certificate: Path, key: Path, own_ca: str, peer_cas: Callable[[], Iterable[str]]) -> None:
        """Load everything once; raise `CallerError` E-CONFIG if the site's own certificate or CA does not load."""
        self._certificate = certificate
        self._key = key
        self._peer_cas = peer_cas
        self._anchors: set[str] = set()
        self.context = _bare_context()
        try:
            self._stamp = self._stamps()
            self.context.load_cert_chain(certificate, key)
            self._add_anchor(own_ca)
        except (OSError, ValueError) as error:
            raise CallerError("E-CONFIG", f"the TLS certificate {certificate} does not load: {type(error).__name__}") from None
        self.refresh()

    def refresh(self) -> None:
        """Load a certificate that changed on disk, and the CAs of sites that are new in the trust bundle."""
        for authority in self._peer_cas():
            if authority not in self._anchors:
                self._follow_anchor(authority)
        try:
            stamp = self._stamps()
            if stamp != self._stamp:
                # Tried on a context of its own first: a pair that does not match would leave the live one without a key.
                _bare_context().load_cert_chain(self._certificate, self._key)
                self.context.load_cert_chain(self._certificate, self._key)
                self._stamp = stamp
                get_logger().info(events.CERTIFICATE_LOADED)
        except OSError as error:
            get_logger().warning(events.CERTIFICATE_REFUSED, error=type(error).__name__)

    def add_own(self, authority: str) -> None:
        """Trust another certificate of the site's own CA from now on."""
        if authority not in self._anchors:
            self._follow_anchor(authority)

    def _follow_anchor(self, authority: str) -> None:
        try:
            self._add_anchor(authority)
            get_logger().info(events.ANCHOR_ADDED)
        except (OSError, ValueError) as error:
            # Kept as known: the bundle will say the same next time, and the site it names cannot connect meanwhile.
            self._anchors.add(authority)
            get_logger().warning(events.ANCHOR_REFUSED, error=type(error).__name__)

    def _add_anchor(self, authority: str) -> None:
        self.context.load_verify_locations(cadata=authority)
        self._anchors.add(authority)

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        """Return what changes when either file is replaced; `ssl.SSLError` is an `OSError`, as is a missing file."""
        found = (path.stat() for path in (self._certificate, self._key))
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context
