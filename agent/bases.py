"""Opens what this agent sealed earlier and the site still holds: bases to build upon, or its own committed transfer.

The site hands the documents out; nothing in them is believed before it verified: the packing list is signed by our own key (or by
our site, which may re-seal), the key opens to what the list commits to, the index is canonical and of that waybill. A base that
does not verify is left out: it costs bytes, not safety. On a sealed lane only our own seal counts, and only one that was never
for the site.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.session import Session
from carnet.contents import check_contents
from carnet.encoding import decode_base64
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, Unavailable
from carnet.flow.chunking_stage import Base
from carnet.flow.opening import open_index
from carnet.identifiers import Digest
from carnet.index import Index
from carnet.lane_mode import open_packing, require_mode
from carnet.messages import SealedArtifact
from carnet.packing import PackingList, SegmentList
from carnet.release import open_release
from carnet.waybill import Waybill


@dataclass(frozen=True)
class OpenedArtifact:
    """An artifact of ours, opened from what the site keeps."""

    waybill: Waybill
    packing: PackingList
    segments: SegmentList
    index: Index


@dataclass(frozen=True)
class OwnSeal:
    """The documents of an artifact that we signed, verified, and its key; nothing of it was fetched yet."""

    waybill: Waybill
    packing: PackingList
    segments: SegmentList
    artifact_key: bytes = field(repr=False)


def verify_sealed(session: Session, sealed: SealedArtifact) -> OwnSeal:
    """Return what the site handed out as ours.

    Raises:
        IntegrityError: signature, commitment or segments are not right; E-LANE-MODE if it was sealed for another lane mode.
    """
    own, bundle = session.identity, session.bundle
    waybill = Waybill.open(parse_envelope(sealed.waybill), [own.signing_key.public])
    packing = open_packing(parse_envelope(sealed.packing_list), waybill, own.signing_key.public, bundle)
    require_mode(packing, bundle.lane(waybill.lane, session.site), waybill.destinations)
    segments = SegmentList.parse(decode_base64(sealed.segment_list))
    packing.check_segments(segments)
    return OwnSeal(waybill, packing, segments, open_release(sealed.release, packing, own.kem_key, recipient=own.id))


async def open_sealed(session: Session, sealed: SealedArtifact) -> OpenedArtifact:
    """Return the artifact whose documents the site handed out.

    Raises:
        IntegrityError: signature, commitment, index or segments are not right. NotFound: a page of the index is gone.
    """
    own = verify_sealed(session, sealed)
    waybill, packing, segments = own.waybill, own.packing, own.segments
    cache = session.index_cache
    index = await open_index(
        [page.id for page in packing.index],
        lambda page: cache.page(page, session.client.segment),
        suite=packing.suite,
        artifact_key=own.artifact_key,
        transfer=packing.transfer,
        closure=waybill.closure,
        segments=segments.count,
        size=waybill.size,
    )
    check_contents(index, waybill, packing, segments)
    return OpenedArtifact(waybill, packing, segments, index)


async def open_bases(
    session: Session, offered: Sequence[SealedArtifact], lineage_key: bytes, already: OpenedArtifact | None
) -> list[Base]:
    """Return the offered bases that open and verify, newest first; those of our lineage serve chunks, others whole parts.

    `already` is one that was opened before and is not opened again.
    """
    found = []
    for sealed in offered:
        if already is not None and _is_of(sealed, already):
            opened = already
        else:
            maybe = await _opened_or_none(session, sealed)
            if maybe is None:
                continue
            opened = maybe
        same = opened.index.head.lineage_key == lineage_key
        found.append(Base(opened.packing.digest, opened.index, opened.segments, same))
    return found


async def newest_lineage(session: Session, offered: Sequence[SealedArtifact]) -> OpenedArtifact | None:
    """Return the first offered base that opens: a new transfer inherits its lineage key and chunk sizes."""
    for sealed in offered:
        opened = await _opened_or_none(session, sealed)
        if opened is not None:
            return opened
    return None


async def _opened_or_none(session: Session, sealed: SealedArtifact) -> OpenedArtifact | None:
    """Return the artifact, or None if anything about it does not verify; a gateway that is away is no such thing."""
    try:
        return await open_sealed(session, sealed)
    except Unavailable:
        raise
    except CarnetError:
        return None


def _is_of(sealed: SealedArtifact, opened: OpenedArtifact) -> bool:
    return Digest.of(parse_envelope(sealed.packing_list).payload) == opened.packing.digest
