"""Opens a committed artifact from the store and checks it against what was signed, before anyone decides about it.

The origin of an inspected lane does this before `offer`, the destination before `receipt`. Everything is streamed; nothing is
written. What is wrong is raised as `IntegrityError`, naming the part or the rule. The origin of a sealed lane holds no key; it
reads back every byte all the same, and checks what a container shows without one.

Steps: (1) index pages open under the artifact key and are canonical; (2) the index is of the closure that the waybill names,
its root part is the artifact; (3) its segments are exactly the signed segment list; (4) every part's digest is right.
"""

from carnet.contents import check_contents
from carnet.errors import IntegrityError, InternalError, NotFound
from carnet.flow.opening import NullWriter, open_index, open_parts
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId, TransferId
from carnet.index_pages import PAGE_MAGIC
from carnet.packing import PackingList, SegmentList
from carnet.segment import check_container
from carnet.waybill import Waybill
from gateway import documents
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


async def read_and_verify(services: Services, transfer: TransferId) -> Waybill:
    """Return the waybill of a committed transfer whose every byte was read back and found right (steps 1 to 4).

    Few run at once, however many wait: each holds an index and some opened segments in memory (P10).

    Raises:
        StoreFault: a segment cannot be read back. IntegrityError, PeerError: the content is not what was signed.
    """
    waybill, packing, segments, sealed_key = await services.catalog.read(
        lambda tx: (
            documents.read_waybill(tx, transfer),
            documents.read_packing(tx, transfer),
            documents.read_segment_list(tx, transfer),
            tx.artifact_key(transfer),
        )
    )
    if sealed_key is None:
        raise InternalError("E-INTERNAL", f"the artifact key of {transfer} is gone")
    artifact_key = services.keyring.open(sealed_key, transfer.raw)
    async with services.opening:
        await _verify(services.store, waybill, packing, segments, artifact_key)
    return waybill


async def read_sealed(services: Services, transfer: TransferId) -> Waybill:
    """Return the waybill of a committed transfer that this site cannot open, after every byte of it was read back.

    Each container is what its id says, of the suite and the kind that the packing list says, and of a length that the padding
    rules give. Whether the content is what was signed is the destination's to find out.

    Raises:
        StoreFault: a segment cannot be read back. IntegrityError: E-FORMAT for a container that is none.
    """
    waybill, packing, segments = await services.catalog.read(
        lambda tx: (
            documents.read_waybill(tx, transfer),
            documents.read_packing(tx, transfer),
            documents.read_segment_list(tx, transfer),
        )
    )
    async with services.opening:
        for page in packing.index:
            check_container(await _stored(services.store, page.id), suite=packing.suite, magic=PAGE_MAGIC)
        for entry in segments:
            check_container(await _stored(services.store, entry.id), suite=packing.suite)
    return waybill


async def _stored(store: BlobReader, segment: SegmentId) -> bytes:
    try:
        return await store.get(segment)
    except (NotFound, IntegrityError) as error:
        raise StoreFault(error.problem) from None


async def _verify(store: BlobReader, waybill: Waybill, packing: PackingList, segments: SegmentList, artifact_key: bytes) -> None:
    async def fetch(segment: SegmentId) -> bytes:
        return await _stored(store, segment)

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
    await open_parts(
        index, fetch, suite=packing.suite, writer_of=lambda _part: NullWriter(), progress=Progress(), is_checked=True
    )
