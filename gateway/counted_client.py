"""A client of a peer that counts the segments it sends; in all else the client itself."""

from collections.abc import Callable
from typing import Any

from carnet.flow.client import PeerClient
from carnet.identifiers import PassageId, SegmentId, TransferId


class CountedPeerClient(PeerClient):
    """`sent` is told the size of each segment that the peer acknowledged."""

    def __init__(self, *arguments: Any, sent: Callable[[int], None], **settings: Any) -> None:
        """Take what `PeerClient` takes, and `sent`."""
        super().__init__(*arguments, **settings)
        self._sent = sent

    async def put_segment(
        self, transfer: TransferId, segment: SegmentId, body: bytes | bytearray | memoryview, row: bytes | None = None
    ) -> bool:
        """Send a segment; see `PeerClient.put_segment`."""
        is_new = await super().put_segment(transfer, segment, body, row)
        self._sent(len(body))
        return is_new

    async def pass_segment(self, passage: PassageId, segment: SegmentId, body: bytes) -> bool:
        """Hand a segment on; see `PeerClient.pass_segment`."""
        is_new = await super().pass_segment(passage, segment, body)
        self._sent(len(body))
        return is_new
