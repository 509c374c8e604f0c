"""Counters of a running transfer, for a progress line and for the summary at the end.

Rules:      1. counters only grow; those of plaintext begin again with another pass over the source
            2. each is written by one thread; readers may see them a moment late
Spec:       docs/operations.md section "Progress"
"""

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a push or a pull is; all counts are bytes of plaintext unless the name says otherwise."""

    total: int | None = None
    """Bytes of the artifact, when known."""
    bytes_read: int = 0
    """Bytes read from the source, or written to the sink."""
    bytes_reused: int = 0
    """Bytes of parts that a base has and that were not read."""
    bytes_referenced: int = 0
    """Bytes read that were already there as chunks."""
    segments_sealed: int = 0
    segments_sent: int = 0
    wire_bytes: int = 0
    """Sealed bytes sent or fetched."""

    def begin_pass(self) -> None:
        """Begin to count the plaintext: the source is read from its start."""
        self.bytes_read = self.bytes_reused = self.bytes_referenced = 0

    def read(self, count: int) -> None:
        """Count bytes read."""
        self.bytes_read += count

    def reuse(self, count: int) -> None:
        """Count a part taken from a base unread."""
        self.bytes_reused += count

    def reference(self, count: int) -> None:
        """Count bytes of chunks that were already there."""
        self.bytes_referenced += count

    @property
    def done(self) -> int:
        """Bytes of the artifact dealt with."""
        return self.bytes_read + self.bytes_reused

    @property
    def saved(self) -> int:
        """Bytes that did not have to be sent."""
        return self.bytes_reused + self.bytes_referenced
