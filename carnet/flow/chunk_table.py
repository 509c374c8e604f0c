"""Where a chunk id was met before: a compact table from 16-byte ids to places in segments.

A Python dict of ids costs about 180 bytes a chunk; this costs 32, which keeps a push of any usual size within its memory. Ids
are uniformly distributed already, so their first bytes are the hash.

Rules:      1. the first place given for an id stays  2. beyond `capacity` ids the table stops learning and stays correct
Layout:     slots (open addressing, ordinal + 1) -> ids (16 bytes each), places (64 bits each)
Spec:       docs/formats.md section "Chunk ids"
Example:    >>> table = ChunkTable()
            >>> table.find_or_add(bytes(16), 7), table.find_or_add(bytes(16), 8), table.find_or_add(bytes([1] * 16), 9)
            (7, 7, 9)
"""

from array import array
from typing import Final

from carnet.suites import CHUNK_ID_BYTES

_CAPACITY_DEFAULT: Final = 1 << 22
"""Ids remembered: 64 GiB of 16 KiB chunks in 128 MiB; a usual push stays far below."""
_SLOTS_FIRST: Final = 1 << 12


class ChunkTable:
    """A growing map from chunk id to a 64-bit place; not safe for two threads at once."""

    def __init__(self, capacity: int = _CAPACITY_DEFAULT) -> None:
        """Start empty; `capacity` bounds the ids remembered."""
        self._capacity = capacity
        self._slots = array("I", bytes(4 * _SLOTS_FIRST))
        self._ids = bytearray()
        self._places = array("Q")

    def __len__(self) -> int:
        return len(self._places)

    def find_or_add(self, chunk: bytes, place: int) -> int:
        """Return the place of the chunk with this id; if there is none, remember `place` for it, unless the table is full."""
        slots, mask, ids, places = self._slots, len(self._slots) - 1, self._ids, self._places
        slot = int.from_bytes(chunk[:8], "big") & mask
        while ordinal := slots[slot]:
            start = (ordinal - 1) * CHUNK_ID_BYTES
            if ids[start : start + CHUNK_ID_BYTES] == chunk:
                return places[ordinal - 1]
            slot = (slot + 1) & mask
        if len(places) < self._capacity:
            ids += chunk
            places.append(place)
            slots[slot] = len(places)
            if 2 * len(places) > len(slots):
                self._grow()
        return place

    def _insert(self, chunk: bytes, ordinal: int) -> None:
        slots, mask = self._slots, len(self._slots) - 1
        slot = int.from_bytes(chunk[:8], "big") & mask
        while slots[slot]:
            slot = (slot + 1) & mask
        slots[slot] = ordinal

    def _grow(self) -> None:
        self._slots = array("I", bytes(4 * 4 * len(self._slots)))
        ids = bytes(self._ids)
        for ordinal in range(1, len(self._places) + 1):
            self._insert(ids[(ordinal - 1) * CHUNK_ID_BYTES : ordinal * CHUNK_ID_BYTES], ordinal)
