"""Whether an opened index is the one that waybill and packing list promise; every opener asks this before it uses the index.

An index that is canonical by itself may still be another artifact's. The origin asks before `offer`, the destination before
`receipt`, the consumer before it writes a byte.

Rules:      1. exactly one root part, the waybill's artifact, of its media type  2. sizes of the parts add up to the waybill's
            3. bases are those of the packing list, in order  4. segments are exactly those of the signed segment list
Spec:       docs/formats.md section "Index"; docs/statements.md sections "Waybill" and "Packing list"
"""

from carnet.errors import IntegrityError
from carnet.index import Index
from carnet.oci import Role
from carnet.packing import PackingList, SegmentList
from carnet.waybill import Waybill


def check_contents(index: Index, waybill: Waybill, packing: PackingList, segments: SegmentList) -> None:
    """Return if rules 1 to 4 hold; raise `IntegrityError` E-INDEX naming what differs otherwise."""
    roots = [entry.part for entry in index.parts if entry.part.role is Role.ARTIFACT]
    if [root.digest for root in roots] != [waybill.artifact]:
        raise IntegrityError("E-INDEX", f"the index has {len(roots)} roots, expected the one artifact {waybill.artifact}")
    if roots[0].media_type != waybill.media_type:
        raise IntegrityError("E-INDEX", f"the root is of type {roots[0].media_type}, the waybill says {waybill.media_type}")
    size = sum(entry.part.size for entry in index.parts)
    if size != waybill.size:
        raise IntegrityError("E-INDEX", f"the parts have {size} bytes, the waybill says {waybill.size}")
    if index.head.bases != packing.bases:
        raise IntegrityError("E-INDEX", "the index names other bases than the packing list")
    used = {entry.id for entry in index.segments}
    if len(used) != segments.count or any(entry.id not in used for entry in segments):
        raise IntegrityError("E-INDEX", f"the index uses {len(used)} segments, not the {segments.count} that were signed")
