"""Every bound of the HTTP edge, by the name that errors use.

Rules:      1. a deadline is in seconds, a rate in bytes per second  2. what a peer can make us hold in memory is bounded here
"""

from dataclasses import dataclass

from carnet.limits import KIB, MIB


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits on connections and requests; the defaults suit a site on the open internet."""

    handshake_s: float = 5.0
    """From connection to the end of the TLS handshake."""
    handshakes_max: int = 256
    """Connections in their handshake at once; one more closes the one that has waited longest."""
    header_s: float = 10.0
    """From the first byte of a request to the end of its headers; also from the handshake to the first request."""
    header_bytes_max: int = 16 * KIB
    """All headers of one request; a sealed row alone may take 8 000."""
    idle_s: float = 75.0
    """Keep-alive without a request."""
    body_grace_s: float = 15.0
    """How long a body may come slower than the floor, in all."""
    body_bytes_per_s_min: int = 16 * KIB
    """The floor: a body must have sent `(elapsed - body_grace_s) * body_bytes_per_s_min`; 0 means no floor."""
    body_s: float = 900.0
    """From the first to the last byte of any body."""
    write_idle_s: float = 30.0
    """A client that takes nothing of an answer for so long is cut."""
    linger_s: float = 1.0
    """After an early refusal: how long the rest of the body is drained so that the client can read the answer."""
    connections_max: int = 1_024
    """Open connections in all; one more closes the oldest that is idle and was never authenticated, else itself."""
    connections_per_identity_max: int = 64
    """Open connections of one identity, all its runners together."""
    bytes_in_flight_max: int = 64 * MIB
    """Bytes of request bodies, and of segments on their way out, that are in memory at once; a segment counts 3 MiB."""
    bytes_in_flight_per_identity_max: int = 48 * MIB
    """Of these, by one identity."""
    requests_per_s_max: float = 1_000.0
    """Requests a second of one identity, all its runners together; twice as many in a burst; 0 means no limit."""
    large_bodies_max: int = 2
    """JSON bodies above 1 MiB that are read and parsed at once."""
    buffer_wait_s: float = 10.0
    """How long a body waits for its share of the bytes in flight before it is told to come back."""
    drain_s: float = 15.0
    """From the order to stop until unfinished requests are cut."""
    reload_s: float = 1.0
    """How often certificate files and trust anchors are looked at."""

    def body_deadline_s(self, received: int) -> float:
        """Return the seconds since its first byte after which a body of which `received` bytes have come is cut."""
        if not self.body_bytes_per_s_min:
            return self.body_s
        return min(self.body_s, self.body_grace_s + received / self.body_bytes_per_s_min)
