"""Finds base segments of which a new artifact uses little: their chunks are sealed anew, so that no ballast is dragged along.

An artifact that refers to a segment needs all of it, at every site and for every pull. Below a quarter in use, sending the few
chunks again costs less than keeping the rest alive from version to version.

Rules:      1. a base segment is sparse when the chunks in use are under a quarter of its plaintext  2. segments of this transfer
            are never sparse
Layout:     place: see carnet/flow/chunking_stage.py
Spec:       docs/formats.md section "Index"; docs/decisions/0012-sparse-base-segments-are-sealed-anew.md
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from carnet.index import Index

_SHARE: Final = 4

SegmentPlace: TypeAlias = tuple[int, int]
"""Base (1-based) and segment number within it."""


def sparse_segments(places: Iterable[Sequence[int]], bases: Sequence[Index]) -> Mapping[SegmentPlace, Sequence[int]]:
    """Return the sparse segments with the numbers of their chunks in use, in order."""
    used: dict[SegmentPlace, set[int]] = {}
    for part in places:
        for place in part:
            source, segment, chunk = place >> 48, place >> 16 & 0xFFFFFFFF, place & 0xFFFF
            if source:
                used.setdefault((source, segment), set()).add(chunk)
    found = {}
    for (source, segment), chunks in used.items():
        entry = bases[source - 1].segments[segment]
        if _SHARE * sum(entry.chunk_lengths[chunk] for chunk in chunks) < entry.raw_length:
            found[source, segment] = sorted(chunks)
    return found
