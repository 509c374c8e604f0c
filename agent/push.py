"""Push: read a source, seal what is new, send it, sign for it, and wait for the site's decision. Run again, it continues.

Steps: (1) declare; the answer may be a denial, an open transfer to continue, or bases to build upon; (2) open what the site holds
for us: resume keys, rows, bases, all checked to be our own; (3) seal and send; (4) sign waybill and packing list, release the key
to destinations, ourselves and, on inspected lanes, the origin; (5) commit; (6) wait.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from agent.bases import open_bases
from agent.ports import Source
from agent.resume import Resume, continue_or_begin, known_segments
from agent.rewrap import due as rewrap_due
from agent.rewrap import rewrap
from agent.sealed_lanes import lane_for
from agent.session import Session, now
from carnet.encoding import encode_base64
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, IntegrityError, PeerError, Unavailable
from carnet.flow.chunking_stage import Base
from carnet.flow.ending import in_thread
from carnet.flow.progress import Progress
from carnet.flow.sealing import PartlyUsed, SealedIndex, SealedSegment, SealingPlan, seal_artifact, seal_index
from carnet.identifiers import LaneName, Repository, SegmentId, SiteName, Tag, TransferId
from carnet.index import Index
from carnet.keys import key_commitment
from carnet.lane_mode import keyholders
from carnet.messages import Advice, CommitRequest, DeclareRequest, DeclareResponse, TransferView
from carnet.oci import Role
from carnet.packing import IndexPage, PackingList, SegmentList, SegmentSummary
from carnet.receipt import Receipt, ReceiptKind
from carnet.release import KeyRelease, make_release, site_recipient
from carnet.suites import KEY_BYTES, SUITE_1
from carnet.timestamps import format_time
from carnet.transfer import DELIVERY_SETTLED, DESTINATION, ORIGIN_DECIDED, is_ended
from carnet.trust import LaneMode
from carnet.waybill import Declarations, Origin, Waybill

_WAYBILL_DAYS = 7
_ATTEMPTS = 3


class Wait(StrEnum):
    """What `push` waits for."""

    RECEIVED = "received"
    """Every segment is durable at the home site."""
    DECIDED = "decided"
    """The home site decided."""
    DELIVERED = "delivered"
    """Every destination delivered, refused, or waits for a person."""


@dataclass(frozen=True, kw_only=True)
class PushOrder:
    """What the person asked for."""

    lane: LaneName
    destinations: tuple[SiteName, ...]
    repository: Repository
    tag: Tag
    declarations: Declarations = field(default_factory=Declarations)
    initiator: str | None = None
    wait: Wait = Wait.DECIDED
    timeout_s: float | None = None
    level: int | None = None
    limit_rate: int | None = None
    fresh: bool = False
    sealed: bool = False
    """The lane must be sealed, or nothing is sent."""


@dataclass(frozen=True)
class PushResult:
    """What came of it: the transfer, how it stands, and the counters of this run."""

    view: TransferView
    advice: Advice
    progress: Progress
    resumed: bool
    mode: LaneMode


async def check(session: Session, source: Source, order: PushOrder) -> DeclareResponse:
    """Return the site's advice without starting anything (`--dry-run`, `carnet inspect`); raises as `lane_for`."""
    lane_for(session, order.lane, sealed=order.sealed)
    return await session.client.declare(_declaration(order, source, TransferId(secrets.token_hex(16)), None, dry_run=True))


async def push(session: Session, source: Source, order: PushOrder, progress: Progress) -> PushResult:
    """Send the source as ordered and return how the transfer stands; raises `Refused` E-DENIED when nothing may be sent.

    Safe to interrupt anywhere: the same order run again, also elsewhere with the same identity, continues (P6). Raises as
    `lane_for` before anything is read.
    """
    lane = lane_for(session, order.lane, sealed=order.sealed)
    progress.total = source.size_hint
    for site in keyholders(lane, order.destinations):
        session.kem_key(site)  # before anything is read: without it nothing could be released there
    resume = await continue_or_begin(
        session,
        source,
        lambda transfer, statement, fresh: _declaration(order, source, transfer, statement, fresh=fresh),
        fresh=order.fresh,
    )
    answer = resume.answer
    if not resume.is_committed:
        await _send_and_commit(session, source, order, progress, resume)
    view = await _wait(session, order, answer.transfer)
    while rewrap_due(session, view):
        await rewrap(session, view)
        view = await _wait(session, order, answer.transfer)
    _check_receipts(session, view)
    return PushResult(view, answer.advice, progress, resume.is_continued, lane.mode)


def _declaration(
    order: PushOrder,
    source: Source,
    transfer: TransferId,
    statement: dict[str, object] | None,
    *,
    fresh: bool = False,
    dry_run: bool = False,
) -> DeclareRequest:
    """Return what is declared.

    A question without a push names the size of the source, if it is known before it is read. The artifact has a manifest more,
    so a push leaves its size to the waybill.
    """
    return DeclareRequest(
        transfer=transfer,
        lane=order.lane,
        repository=order.repository,
        tag=order.tag,
        kind=source.kind,
        media_type=source.media_type,
        digest=source.digest,
        size=source.size_hint if dry_run else None,
        declarations=order.declarations,
        destinations=order.destinations,
        initiator=order.initiator,
        resume=statement,
        dry_run=dry_run,
        fresh=fresh,
    )


async def _send_and_commit(session: Session, source: Source, order: PushOrder, progress: Progress, resume: Resume) -> None:
    """Steps (2) to (5). A base that turns out to be gone, or rows of a source that changed, cost another pass without them."""
    bases = await open_bases(session, resume.answer.bases, resume.keys.lineage_key, resume.base)
    excluded: frozenset[SegmentId] = frozenset()
    for attempt in range(_ATTEMPTS):
        progress.begin_pass()
        known = [one for one in await known_segments(session, resume) if one.id not in excluded]
        plan = SealingPlan(
            transfer=resume.answer.transfer,
            suite=SUITE_1,
            sizes=resume.sizes,
            lineage_key=resume.keys.lineage_key,
            resume_key=resume.keys.resume_key,
            level=order.level,
            bases=bases,
            known=known,
            fetch=session.client.segment,
        )
        try:
            index = await seal_artifact(
                source.parts(), plan, _sender(session, resume, order), slots=session.client.slots, progress=progress
            )
            source.check_unchanged()
            await _commit(session, source, order, progress, resume, index, bases)
        except PartlyUsed as partly:
            excluded |= partly.segments
            _check_rereadable(source, partly)
        except (PeerError, _BaseGone) as error:
            if not bases or (isinstance(error, PeerError) and error.code != "E-BASE"):
                raise
            bases = []
            _check_rereadable(source, error)
        else:
            return
        if attempt == _ATTEMPTS - 2:
            excluded, bases = frozenset(one.id for one in known) | excluded, []
    raise Unavailable("E-INTERRUPTED", f"transfer {resume.answer.transfer} could not be completed in {_ATTEMPTS} passes")


class _BaseGone(IntegrityError):
    """The site no longer has a segment that a base promised."""


def _check_rereadable(source: Source, cause: CarnetError) -> None:
    if not source.is_rereadable:
        raise IntegrityError(
            "E-SOURCE-CHANGED",
            f"the stream differs from what was sent before it was interrupted ({cause.problem})",
            remedy="run the push again with --fresh, giving the whole stream again",
        ) from None


def _sender(session: Session, resume: Resume, order: PushOrder) -> Callable[[SealedSegment], Awaitable[None]]:
    limiter = _RateLimit(order.limit_rate) if order.limit_rate else None

    async def send(segment: SealedSegment) -> None:
        if limiter is not None:
            await limiter.take(len(segment.sealed))
        resume.sizes_sent[segment.id] = len(segment.sealed)
        await session.client.put_segment(resume.answer.transfer, segment.id, segment.sealed, segment.row)

    return send


class _RateLimit:
    """Spaces out bytes so that on average at most `rate` a second go; all senders of a push share one."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next = 0.0

    async def take(self, count: int) -> None:
        """Return when `count` more bytes may go."""
        moment = time.monotonic()
        self._next = max(self._next, moment) + count / self._rate
        await asyncio.sleep(max(0.0, self._next - moment - 1.0))


async def _commit(
    session: Session, source: Source, order: PushOrder, progress: Progress, resume: Resume, index: Index, bases: list[Base]
) -> None:
    """Step (4) and (5)."""
    transfer = resume.answer.transfer
    artifact_key = secrets.token_bytes(KEY_BYTES)
    sealed = await asyncio.to_thread(seal_index, index, suite=SUITE_1, artifact_key=artifact_key, transfer=transfer)
    for page in sealed.pages:
        await session.client.put_segment(transfer, page.id, page.sealed, None)
        progress.wire_bytes += len(page.sealed)
    waybill = _waybill(session, source, order, resume, index, sealed)
    segments = _segment_list(index, resume, bases)
    packing = PackingList(
        transfer=transfer,
        waybill=waybill.digest,
        suite=SUITE_1,
        sealer=session.identity.id,
        bases=index.head.bases,
        sites=keyholders(session.bundle.lane(order.lane, session.site), order.destinations),
        index=tuple(IndexPage(id=page.id, size=len(page.sealed)) for page in sealed.pages),
        segments=SegmentSummary.of(segments),
        key_commitment=key_commitment(SUITE_1, artifact_key, transfer).hex(),
        at=format_time(now()),
    )
    signing = session.identity.signing_key
    request = CommitRequest(
        waybill=waybill.sign(signing).to_json(),
        packing_list=packing.sign(signing).to_json(),
        segment_list=encode_base64(segments.encode()),
        releases=_releases(session, packing, artifact_key),
    )
    answer = await session.client.commit(transfer, request)
    if answer.missing:
        raise _BaseGone("E-SEGMENT-MISSING", f"{len(answer.missing)} segments of {transfer} are not at {session.site}")
    for page in sealed.pages:
        await in_thread(session.index_cache.keep, page.id, page.sealed)


def _waybill(session: Session, source: Source, order: PushOrder, resume: Resume, index: Index, sealed: SealedIndex) -> Waybill:
    root = next(entry.part for entry in index.parts if entry.part.role is Role.ARTIFACT)
    moment = now()
    return Waybill(
        transfer=resume.answer.transfer,
        repository=order.repository,
        tag=order.tag,
        kind=source.kind,
        media_type=source.media_type,
        artifact=root.digest,
        size=sum(entry.part.size for entry in index.parts),
        closure=sealed.closure,
        origin=Origin(site=session.site, agent=session.identity.id, initiator=order.initiator),
        at=format_time(moment),
        not_after=format_time(moment + timedelta(days=_WAYBILL_DAYS)),
        previous=resume.answer.previous,
        turn=resume.answer.turn,
        destinations=order.destinations,
        lane=order.lane,
        trust_version=session.bundle.version,
        declarations=order.declarations,
    )


def _segment_list(index: Index, resume: Resume, bases: list[Base]) -> SegmentList:
    """List every segment of the index with its sealed size: sizes of ours we counted, of bases their lists tell."""

    def size_of(segment: SegmentId) -> int:
        found = resume.sizes_sent.get(segment)
        sizes = (base.segments.size_of(segment) for base in bases)
        return found or next(size for size in sizes if size is not None)

    return SegmentList.of((entry.id, size_of(entry.id)) for entry in index.segments)


def _releases(session: Session, packing: PackingList, artifact_key: bytes) -> tuple[KeyRelease, ...]:
    """Wrap the artifact key to each site that the packing list goes to, and to ourselves (to build upon it later)."""
    found = []
    for site in packing.sites:
        number, key = session.kem_key(site)
        recipient = site_recipient(session.bundle.trust_domain, site)
        found.append(make_release(packing, artifact_key, recipient=recipient, key_number=number, public=key))
    own = session.identity
    found.append(make_release(packing, artifact_key, recipient=own.id, key_number=1, public=own.kem_key.public))
    return tuple(found)


async def _wait(session: Session, order: PushOrder, transfer: TransferId) -> TransferView:
    """Step (6): return the view once what was waited for is there; raise `Unavailable` E-TIMEOUT after the time given."""
    if order.wait is Wait.RECEIVED:
        return await session.client.show(transfer)

    return await session.client.wait(transfer, lambda view: is_settled(view, order.wait), order.timeout_s)


def _check_receipts(session: Session, view: TransferView) -> None:
    """Believe `delivered` only with the destination's own signature under it.

    Raises:
        IntegrityError: E-SIGNATURE if the home site shows a delivery as delivered without a receipt about this transfer.
    """
    for delivery in view.deliveries:
        if delivery.state != "delivered":
            continue
        site = session.bundle.site(delivery.destination)
        if delivery.delivered_receipt is None:
            raise IntegrityError("E-SIGNATURE", f"{session.site} says {site.name} delivered but shows no receipt")
        receipt = Receipt.open(parse_envelope(delivery.delivered_receipt), [site.signing_key])
        about = (receipt.kind, receipt.site, receipt.transfer, receipt.artifact)
        if about != (ReceiptKind.DELIVERED, site.name, view.transfer, view.digest):
            raise IntegrityError("E-SIGNATURE", f"the receipt of {site.name} is not about the delivery of {view.transfer}")


def is_settled(view: TransferView, goal: Wait) -> bool:
    """Tell whether a transfer is where someone who waits for `goal` need wait no longer."""
    if view.role == "destination":
        return is_ended(DESTINATION, view.state) or view.state in {"held", "quarantined"}
    if goal is Wait.RECEIVED:
        return view.state not in {"declared", "receiving"}
    if view.state not in ORIGIN_DECIDED or goal is Wait.DECIDED or view.state != "admitted":
        return view.state in ORIGIN_DECIDED
    return all(delivery.state in DELIVERY_SETTLED for delivery in view.deliveries)
