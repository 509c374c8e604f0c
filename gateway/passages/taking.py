"""Takes what the neighbours on a passage hand over: slips, segments, letters. The same at a relay and at the far end.

A relay opens nothing: it compares the slip with its trust bundle, each segment with its id and the slip, and keeps letters as
they are. At the destination a segment is kept only if it is on the signed list too.

Rules:      1. a passage exists for its two neighbours only; to anybody else it looks like none  2. acknowledged is durable
            3. slips and letters are numbered without gap; a number seen before changes nothing  4. what breaks a slip is an alarm
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CapacityError, Conflict, IntegrityError, NotAuthorised, NotFound, PeerError, Unavailable
from carnet.identifiers import PassageId, SegmentId, SpiffeId
from carnet.letter import Direction
from carnet.limits import MIB
from carnet.messages import SlipRequest
from carnet.packing import SegmentSummary
from carnet.release import site_recipient
from carnet.routing import RoutingSlip, neighbours, open_slip, require_listed
from carnet.timestamps import format_time, parse_time
from carnet.trust import Carriage
from gateway import documents
from gateway.heads import Heads
from gateway.inbound import Inbound
from gateway.passage_records import LetterRecord, PassageRecord, SlipRecord
from gateway.passages.steps import log_segments, raise_alarm, sign_slip
from gateway.ports import Transaction
from gateway.services import Services

_TRANSIT_BYTES_MAX: Final = 64 * MIB
"""What a relay holds of one passage in transit before it asks the site before to wait."""


_IN_MOTION: Final = timedelta(hours=1)
"""A passage on which nothing moved for so long does not count as open; what it holds does."""


class Passages:
    """Every call names the authenticated peer, a `gateway` identity."""

    def __init__(self, services: Services, inbound: Inbound) -> None:
        """Use the site's services; `inbound` keeps what arrives at its destination."""
        self._services = services
        self._inbound = inbound
        self._heads = Heads(services)

    async def take_slip(self, peer: SpiffeId, passage: PassageId, request: SlipRequest) -> None:
        """Take a slip of the site before: verified, logged, and at a relay signed anew for the next site.

        Raises:
            IntegrityError, PeerError, NotFound, NotAuthorised: as `open_slip`; NotAuthorised E-RELAY if this site relays nothing.
            CapacityError: E-LIMIT relay_transfers_max, relay_bytes_max. Conflict: E-STATE. PeerError: E-EXPIRED.
        """
        services = self._services
        await services.trust.take_revocations(request.revocations)
        bundle = services.trust.ground(peer.site)
        envelope = parse_envelope(request.slip)
        slip = open_slip(envelope, request.proof, bundle=bundle, passage=passage, site=services.site)
        if peer.kind != "gateway" or peer.site != slip.sender:
            raise NotAuthorised("E-NOT-ALLOWED", f"{peer.name} hands over a slip of {slip.sender}")
        if slip.next is not None and not services.bounds.relaying:
            raise NotAuthorised("E-RELAY", f"site {services.site} relays nothing", remedy="use another route of the lane")
        if not slip.is_withdrawal and parse_time(slip.deadline) <= services.trust.floor.judged(services.clock.now()):
            raise PeerError("E-EXPIRED", f"the slip of passage {passage} ended at {slip.deadline}")
        await self._heads.check(bundle, peer.site, request.proof)
        left = await services.catalog.write(lambda tx: self._keep_slip(tx, slip, envelope))
        await services.remove_unneeded(left)

    def _keep_slip(self, tx: Transaction, slip: RoutingSlip, envelope: Envelope) -> list[SegmentId]:
        """Keep the slip, and at a relay sign the next one; return the segments that nobody needs after a withdrawal."""
        record = tx.passage(slip.passage)
        known = tx.slip(slip.passage, slip.number)
        if known is not None and known.taken is not None and parse_envelope(known.taken).payload == envelope.payload:
            return []
        if record is None:
            record = self._begin(tx, slip)
        same = (record.transfer, record.lane, record.way, record.carriage) == (slip.transfer, slip.lane, slip.way, slip.carriage)
        if known is not None or not same or record.state != "open" or slip.number != record.slips:
            raise Conflict("E-STATE", f"slip {slip.number} does not follow on passage {slip.passage}, which has {record.slips}")
        self._require_room(tx, record, slip)
        segments = slip.segment_list()
        record = replace(
            record,
            slips=slip.number + 1,
            moved_at=tx.now,
            deadline=max(record.deadline, parse_time(slip.deadline)),
            delete_by=max(record.delete_by, parse_time(slip.delete_by)),
        )
        if record.role == "end" and segments.count:
            record = self._require_signed_for(tx, record, slip)
        tx.save_passage(record)
        tx.carry(record.id, slip.number, segments, here=False)
        tx.append(
            EntryType.SLIP_TAKEN,
            {
                "transfer": record.transfer,
                "passage": record.id,
                "from": slip.sender,
                "slip": slip.digest,
                "segments": SegmentSummary.of(segments).to_json(),
            },
        )
        if record.role == "relay":
            sign_slip(tx, self._services, record, slip.for_next(format_time(tx.now)), taken=envelope.encode())
        else:
            tx.save_slip(
                SlipRecord(passage=record.id, number=slip.number, taken=envelope.encode(), signed=None, entry=None, passed=True)
            )
        return self._withdraw(tx, record) if slip.is_withdrawal and record.role == "relay" else []

    def _withdraw(self, tx: Transaction, record: PassageRecord) -> list[SegmentId]:
        left = tx.drop_carried(record.id)
        if left:
            tx.append(EntryType.SEGMENTS_DELETED, {"transfer": record.transfer, "passage": record.id, "count": len(left)})
        return left

    def _begin(self, tx: Transaction, slip: RoutingSlip) -> PassageRecord:
        before, after = neighbours(slip.way, self._services.site)
        self._services.reserve.require_room(f"passage {slip.passage}")
        limit = self._services.bounds.relay_transfers_max
        if before is not None and tx.relay_load(before, tx.now - _IN_MOTION)[0] >= limit:
            raise CapacityError(
                "E-LIMIT",
                f"{limit} passages of {before} are open here already (relay_transfers_max)",
                limit="relay_transfers_max",
            )
        record = PassageRecord(
            id=slip.passage,
            transfer=slip.transfer,
            role="end" if after is None else "relay",
            lane=slip.lane,
            way=slip.way,
            before=before,
            after=after,
            carriage=slip.carriage,
            state="open",
            created_at=tx.now,
            moved_at=tx.now,
            deadline=parse_time(slip.deadline),
            delete_by=parse_time(slip.delete_by),
        )
        tx.save_passage(record)
        return record

    def _require_room(self, tx: Transaction, record: PassageRecord, slip: RoutingSlip) -> None:
        if record.role == "relay" and record.before is not None:
            self._require_bytes(tx, record, slip.segment_list().bytes)

    def _require_bytes(self, tx: Transaction, record: PassageRecord, more: int) -> None:
        limit = self._services.bounds.relay_bytes_max
        if record.before is not None and tx.relay_load(record.before, tx.now)[1] + more > limit:
            raise CapacityError(
                "E-LIMIT",
                f"{more} bytes more would exceed the relay_bytes_max held here for {record.before}",
                limit="relay_bytes_max",
            )

    def _require_signed_for(self, tx: Transaction, record: PassageRecord, slip: RoutingSlip) -> PassageRecord:
        """At the destination: the slip names nothing that the packing list does not; what it does is an alarm (rule 4).

        The alarm has to outlive the refusal, so the slip is kept without its strangers: their segments are refused one by one.
        """
        if tx.document(record.transfer, documents.PACKING_LIST) is None:
            raise Conflict("E-STATE", f"segments of passage {record.id} come before the declaration")
        pages = {str(page.id): page.size for page in documents.read_packing(tx, record.transfer).index}
        try:
            require_listed(slip, documents.read_segment_list(tx, record.transfer), pages)
        except NotFound as error:
            return raise_alarm(tx, record, [slip.sender], error.problem)
        return record

    async def put_segment(
        self, peer: SpiffeId, passage: PassageId, segment: SegmentId, data: bytes | bytearray | memoryview
    ) -> bool:
        """Keep one segment of a slip durably; return whether it is new.

        Raises:
            NotFound: E-TRANSFER-UNKNOWN for a passage that is not this peer's; E-SEGMENT-UNKNOWN for a segment on no slip of it.
            IntegrityError: E-SEGMENT-CORRUPT. Unavailable: E-BUSY while the next site is slower than this peer.
        """
        services = self._services

        def allowed(tx: Transaction) -> tuple[PassageRecord, tuple[int, str, int] | None, int]:
            record = _passage_of(tx, peer, passage, Direction.ONWARD)
            held = tx.carried_count(passage, first=0, before=record.slips).bytes_here
            return record, tx.carried(passage, segment), held

        record, named, held = await services.catalog.read(allowed)
        if named is None or named[0] != len(data):
            if record.role == "end":
                await self._alarm(record, peer, f"segment {segment} of {len(data)} bytes came, which is on no slip")
            raise NotFound("E-SEGMENT-UNKNOWN", f"segment {segment} of {len(data)} bytes is on no slip of passage {passage}")
        if named[1] != "due":
            return False
        if record.role == "relay" and record.carriage is Carriage.TRANSIT and held + len(data) > _TRANSIT_BYTES_MAX:
            raise Unavailable("E-BUSY", f"{record.after} takes the segments of passage {passage} slower", retry_after_s=1)
        if record.role == "end":
            await self._deliver(record, peer, segment, data)
        else:
            await self._hold(record, peer, segment, data)
        return True

    async def _hold(
        self, record: PassageRecord, peer: SpiffeId, segment: SegmentId, data: bytes | bytearray | memoryview
    ) -> None:
        services = self._services

        def keep(tx: Transaction) -> None:
            current = _passage_of(tx, peer, record.id, Direction.ONWARD)
            if tx.carried(record.id, segment) is None:
                raise NotFound("E-SEGMENT-UNKNOWN", f"segment {segment} of passage {record.id} was withdrawn")
            tx.keep_carried(record.id, segment, len(data))
            tx.save_passage(replace(current, moved_at=tx.now))
            self._note_arrival(tx, current, segment)
            tx.queue_job("pass-on", record.id)

        try:
            async with services.guard.holding(segment):
                await services.store.put_if_absent(segment, data)
                await services.catalog.write(keep)
        except NotFound:
            await services.remove_unneeded([segment])
            raise

    async def _deliver(
        self, record: PassageRecord, peer: SpiffeId, segment: SegmentId, data: bytes | bytearray | memoryview
    ) -> None:
        services = self._services
        origin = site_recipient(services.trust_domain, record.way[0])
        try:
            await self._inbound.put_segment(origin, record.transfer, segment, data)
        except (IntegrityError, NotFound) as error:
            await self._alarm(record, peer, error.problem)
            raise

        def keep(tx: Transaction) -> None:
            current = _passage_of(tx, peer, record.id, Direction.ONWARD)
            tx.pass_carried(record.id, segment)
            tx.save_passage(replace(current, moved_at=tx.now))
            self._note_arrival(tx, current, segment)

        await services.catalog.write(keep)

    def _note_arrival(self, tx: Transaction, record: PassageRecord, segment: SegmentId) -> None:
        """Log that a slip is whole, once its last segment is here."""
        named = tx.carried(record.id, segment)
        if named is not None and tx.carried_count(record.id, first=named[2], before=named[2] + 1).due == 0:
            log_segments(tx, EntryType.SEGMENTS_RECEIVED, record, named[2], record.before)

    async def take_letter(
        self, peer: SpiffeId, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes
    ) -> None:
        """Keep a letter, to be passed on or opened here, once `slips` slips are carried out.

        Raises:
            NotFound: E-TRANSFER-UNKNOWN. Conflict: E-STATE for a letter that does not follow. CapacityError: E-LIMIT.
        """
        services = self._services

        def keep(tx: Transaction) -> None:
            record = _passage_of(tx, peer, passage, direction)
            following = tx.next_letter(passage, direction)
            if number < following:
                return
            if number > following or slips > record.slips:
                raise Conflict("E-STATE", f"letter {number} does not follow on passage {passage}, which has {following}")
            if record.role == "relay":
                self._require_bytes(tx, record, len(body))
            tx.save_letter(LetterRecord(passage=passage, direction=direction, number=number, body=body, slips=slips))
            tx.save_passage(replace(record, moved_at=tx.now))
            onward = "pass-on" if direction is Direction.ONWARD else "pass-back"
            tx.queue_job(onward if record.role == "relay" else "open-letters", passage)

        await services.catalog.write(keep)

    async def _alarm(self, record: PassageRecord, peer: SpiffeId, why: str) -> None:
        await self._services.catalog.write(lambda tx: raise_alarm(tx, record, [peer.site], why))


def _passage_of(tx: Transaction, peer: SpiffeId, passage: PassageId, direction: Direction) -> PassageRecord:
    """Return the open passage on which `peer` is the neighbour that hands over in this direction (rule 1).

    Raises:
        NotFound: E-TRANSFER-UNKNOWN, be it another's, over, or nobody's.
    """
    record = tx.passage(passage)
    missing = NotFound("E-TRANSFER-UNKNOWN", f"no passage {passage} of yours")
    if record is None or record.state == "ended" or peer.kind != "gateway":
        raise missing
    if peer.site != (record.before if direction is Direction.ONWARD else record.after):
        raise missing
    return record
