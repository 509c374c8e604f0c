"""The store in memory: the same promises as the local store but durability, for simulations and the tests of use cases.

Rules:      1. it passes the contract suite of the real stores
"""

from collections.abc import AsyncIterator, Mapping

from carnet.errors import NotFound
from carnet.identifiers import SegmentId
from gateway.storage.local import check_segment


class MemoryBlobStore:
    """Implements `BlobStore` in a dictionary; `segments` is owned by the test that made the store."""

    def __init__(self) -> None:
        """Start empty."""
        self.segments: dict[SegmentId, bytes] = {}

    async def put_if_absent(self, segment: SegmentId, data: bytes | bytearray | memoryview) -> bool:
        """Keep a copy of `data`; see `BlobStore.put_if_absent`."""
        check_segment(segment, data)
        if self.segments.get(segment) == data:
            return False
        is_new = segment not in self.segments
        self.segments[segment] = bytes(data)
        return is_new

    async def get(self, segment: SegmentId) -> bytes:
        """Return the bytes, hashed again; see `BlobReader.get`."""
        if segment not in self.segments:
            raise NotFound("E-SEGMENT-UNKNOWN", f"no segment {segment}")
        data = self.segments[segment]
        check_segment(segment, data)
        return data

    async def head(self, segment: SegmentId) -> int | None:
        """Return the size, or None."""
        data = self.segments.get(segment)
        return None if data is None else len(data)

    async def delete(self, segment: SegmentId) -> None:
        """Forget the segment."""
        self.segments.pop(segment, None)

    async def list(self) -> AsyncIterator[SegmentId]:
        """Yield the ids that are here."""
        for segment in tuple(self.segments):
            yield segment

    async def shards(self) -> AsyncIterator[Mapping[SegmentId, int]]:
        """Yield all that is here, with sizes."""
        yield {segment: len(data) for segment, data in self.segments.items()}

    async def leftovers(self) -> Mapping[str, int]:
        """Return nothing: there are no files."""
        return {}

    async def remove_leftover(self, name: str) -> None:
        """Do nothing: there are no files."""
