"""Opens a committed artifact from the store and checks it against what was signed, before anyone decides about it.

The origin of an inspected lane does this before `offer`, the destination before `receipt`. Everything is streamed; nothing is
written. What is wrong is raised as `IntegrityError`, naming the part or the rule.

Steps: (1) index pages open under the artifact key and are canonical; (2) the index is of the closure that the waybill names,
its root part is the artifact; (3) its segments are exactly the signed segment list; (4) every part's digest is right.
"""

from carnet.contents import check_contents
from carnet.errors import IntegrityError, InternalError, NotFound
from carnet.flow.opening import NullWriter, open_index, open_parts
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId
from carnet.index import Index
from carnet.packing import PackingList, SegmentList
from carnet.waybill import Waybill
from gateway.ports import BlobReader
from gateway.services import Services


class StoreFault(InternalError):
    """This site's own store lost or damaged a segment that it had acknowledged; the artifact itself may be sound."""

    def __init__(self, problem: str) -> None:
        """Say which segment, and what an operator does."""
        super().__init__(
            "E-STORE",
            f"the store cannot give back what it took: {problem}",
            remedy="find all damage with `carnet-gateway store check --read-data`, restore the segments and retry the transfer, "
            "or push again with --fresh",
        )


async def verify_content(
    services: Services, waybill: Waybill, packing: PackingList, segments: SegmentList, artifact_key: bytes
) -> Index:
    """Return the index of an artifact whose every byte was read back and found right (steps 1 to 4).

    Few run at once, however many wait: each holds an index and some opened segments in memory (P10).
    """
    async with services.opening:
        return await _verify(services.store, waybill, packing, segments, artifact_key)


async def _verify(store: BlobReader, waybill: Waybill, packing: PackingList, segments: SegmentList, artifact_key: bytes) -> Index:

    async def fetch(segment: SegmentId) -> bytes:
        try:
            return await store.get(segment)
        except (NotFound, IntegrityError) as error:
            raise StoreFault(error.problem) from None

    index = await open_index(
        [page.id for page in packing.index],
        fetch,
        suite=packing.suite,
        artifact_key=artifact_key,
        transfer=packing.transfer,
        closure=waybill.closure,
        segments=segments.count,
        size=waybill.size,
    )
    check_contents(index, waybill, packing, segments)
    await open_parts(index, fetch, suite=packing.suite, writer_of=lambda _part: NullWriter(), progress=Progress())
    return index
