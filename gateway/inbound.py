"""Takes transfers from peer sites: declare, segments, commit, and the messages between the two ends.

Everything signed is verified here, against the trust bundle and nothing else, before anything is kept: the originator by its
site's statement, the waybill and packing list by the originator, the `offer` decision by the origin site with proof that it is
in that site's log. What becomes of a key is in `gateway.unwrapping`.
"""

import asyncio
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import timedelta

from carnet.checkpoint import log_origin
from carnet.decision import Decision, Gate, Outcome
from carnet.encoding import decode_base64
from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import Conflict, Held, IntegrityError, NotAuthorised, NotFound, PeerError
from carnet.identifiers import Digest, SegmentId, SpiffeId, TransferId
from carnet.lane_mode import open_packing, require_mode
from carnet.limits import MISSING_MAX
from carnet.messages import (
    DecisionMessage,
    ForwardRequest,
    ForwardResponse,
    KeyReleaseMessage,
    RecallMessage,
    ReceiptMessage,
    SiteMessage,
)
from carnet.packing import PackingList, SegmentList
from carnet.proof import EntryProof, verify_entry_proof
from carnet.receipt import Receipt, ReceiptKind
from carnet.steps import Expected, require_allow, verify_step
from carnet.timestamps import parse_time
from carnet.transfer import DELIVERY, DESTINATION, EVENTS_OF_OUTCOME, may, step
from carnet.trust import Lane, TrustBundle, open_agent_statement
from carnet.waybill import Waybill
from gateway import documents
from gateway.deciding import require_signer
from gateway.deliver import sign_receipt
from gateway.forward import check_receipt_subject
from gateway.heads import Heads
from gateway.ownership import delivery_to, transfer_of_peer
from gateway.ports import Transaction
from gateway.quotas import require_open, require_pins
from gateway.recall_inbox import RecallInbox, is_deleted_receipt
from gateway.recall_signing import refuse_recalled
from gateway.records import StoredSegment, TransferRecord
from gateway.services import Services
from gateway.unwrapping import Unwrapping

_LISTED_MAX = 1_000_000
"""Segments of the lists kept parsed, together: 37 MB."""


@dataclass(frozen=True)
class _Signed:
    """A peer's documents after everything about them was verified."""

    waybill: Waybill
    waybill_envelope: Envelope
    packing: PackingList
    packing_envelope: Envelope
    segments: SegmentList
    agent_statement: Envelope
    offer: Envelope
    offer_proof: EntryProof


@dataclass(frozen=True)
class _Listed:
    """What one packing list names: its segments and the pages of its index, with sizes."""

    segments: SegmentList
    pages: dict[SegmentId, int]


class Inbound:
    """The peer-facing half of a site; every call names the authenticated peer, a `gateway` identity."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services
        self._heads = Heads(services)
        self._unwrapping = Unwrapping(services, self._heads)
        self._recalls = RecallInbox(services, self._heads)
        self._listed: OrderedDict[Digest, _Listed] = OrderedDict()
        """What recent packing lists name, by their digest, least recently used first; the lock is for the catalog's threads."""
        self._listed_lock = threading.Lock()

    async def declare(self, peer: SpiffeId, request: ForwardRequest) -> ForwardResponse:
        """Verify what a peer will send and answer with the segments that are not here; those that are stay pinned.

        Idempotent by transfer id for the same waybill; a stored transfer is answered with its receipt.

        Raises:
            IntegrityError: a signature, proof, decision or digest is not right. Held: E-TRUST-EXPIRED.
            NotAuthorised: E-NOT-ALLOWED for a lane that does not lead from the peer to here. Conflict: E-STATE.
            Refused: E-RECALLED for what was recalled: it does not come back.
            CapacityError: E-LIMIT peer_open_transfers_max, pinned_bytes_max.
        """
        services = self._services
        await services.trust.take_revocations(request.revocations)
        bundle = services.trust.ground(peer.site)
        if peer.site != request.site or peer.kind != "gateway":
            raise NotAuthorised("E-NOT-ALLOWED", f"{peer.name} may not speak for site {request.site}")
        # Parsing and checking take a while for a large list: not on the event loop.
        signed = await asyncio.to_thread(self._verify, request, bundle)
        await self._heads.check(bundle, request.site, request.offer.proof)
        return await services.catalog.write(lambda tx: self._open(tx, peer, signed))

    def _verify(self, request: ForwardRequest, bundle: TrustBundle) -> _Signed:
        """Steps: (1) agent; (2) waybill; (3) lane; (4) packing list; (5) segment list; (6) `offer` decision and proof."""
        now = self._services.trust.floor.judged(self._services.clock.now())
        statement_envelope = parse_envelope(request.agent_statement)
        statement = open_agent_statement(statement_envelope, bundle)  # (1)
        self._services.trust.revocations.state.require_agent(statement)
        waybill_envelope = parse_envelope(request.waybill)
        waybill = Waybill.open(waybill_envelope, [statement.signing_key])  # (2)
        if waybill.transfer != request.transfer or waybill.origin.agent != statement.identity:
            raise IntegrityError("E-SIGNATURE", f"waybill of {request.transfer} is by another agent or of another transfer")
        if not statement.is_valid_at(parse_time(waybill.at)):
            raise IntegrityError("E-SIGNATURE", f"agent {statement.identity.name} was not valid at {waybill.at}")
        lane = bundle.lane(waybill.lane, request.site)
        self._check_lane(lane, waybill, request, bundle)  # (3)
        if parse_time(waybill.not_after) <= now:
            raise PeerError("E-EXPIRED", f"waybill of {request.transfer} ended at {waybill.not_after}")
        packing_envelope = parse_envelope(request.packing_list)
        packing = open_packing(packing_envelope, waybill, statement.signing_key, bundle)  # (4)
        require_mode(packing, lane, waybill.destinations)
        if packing.suite not in lane.suites:
            raise IntegrityError("E-SIGNATURE", f"packing list of {request.transfer}: suite {packing.suite} is not the lane's")
        segments = SegmentList.parse(decode_base64(request.segment_list))
        packing.check_segments(segments)  # (5)
        decision = verify_step(  # (6)
            request.offer,
            site=bundle.site(request.site),
            trust_domain=bundle.trust_domain,
            expected=Expected(
                gate=Gate.OFFER,
                transfer=waybill.transfer,
                waybill=waybill.digest,
                packing=packing.digest,
                destination=self._services.site,
            ),
        )
        require_allow(decision, now)
        offer = parse_envelope(request.offer.decision)
        proof = request.offer.proof
        return _Signed(waybill, waybill_envelope, packing, packing_envelope, segments, statement_envelope, offer, proof)

    def _check_lane(self, lane: Lane, waybill: Waybill, request: ForwardRequest, bundle: TrustBundle) -> None:
        here = self._services.site
        if lane.origin != request.site or here not in lane.destinations or here not in waybill.destinations:
            raise NotAuthorised(
                "E-NOT-ALLOWED", f"lane {lane.name} does not lead {waybill.transfer} from {request.site} to {here}"
            )
        if waybill.origin.site != request.site:
            raise NotAuthorised("E-NOT-ALLOWED", f"{request.site} may not send what originates at {waybill.origin.site}")
        if waybill.trust_version > bundle.version:
            raise Held(
                "E-TRUST",
                f"waybill of {waybill.transfer} rests on trust bundle {waybill.trust_version}, here is {bundle.version}",
                remedy="import the newer trust bundle at this site",
            )

    def _open(self, tx: Transaction, peer: SpiffeId, signed: _Signed) -> ForwardResponse:
        waybill = signed.waybill
        refuse_recalled(tx, waybill.transfer)
        record = tx.transfer(waybill.transfer)
        if record is None:
            record = self._begin(tx, peer, signed)
        elif (record.role, record.sender, record.waybill_digest, record.packing_digest) != (
            "destination",
            peer,
            waybill.digest,
            signed.packing.digest,
        ):
            raise Conflict("E-STATE", f"transfer id {waybill.transfer} is in use for another waybill or packing list")
        if record.state != "receiving":
            return self._answer(tx, record)
        listed = {SegmentId(segment): size for segment, size in documents.segments_to_hold(signed.packing, signed.segments)}
        here = _already_here(tx, peer, listed)
        require_pins(self._services.bounds, record.id, here)
        tx.pin_segments(record.id, here)
        missing = [segment for segment in listed if segment not in here]
        return ForwardResponse(state=record.state, missing=tuple(missing[:MISSING_MAX]))

    def _begin(self, tx: Transaction, peer: SpiffeId, signed: _Signed) -> TransferRecord:
        waybill = signed.waybill
        self._services.reserve.require_room(f"transfer {waybill.transfer}")
        require_open(tx, self._services.bounds, peer)
        record = TransferRecord(
            id=waybill.transfer,
            role="destination",
            state="receiving",
            state_at=tx.now,
            created_at=tx.now,
            expires_at=max(parse_time(waybill.not_after), tx.now + timedelta(hours=1)),
            origin=waybill.origin.site,
            sender=peer,
            agent=waybill.origin.agent,
            lane=waybill.lane,
            repository=waybill.repository,
            tag=waybill.tag,
            kind=waybill.kind,
            media_type=waybill.media_type,
            digest=waybill.artifact,
            size=waybill.size,
            destinations=waybill.destinations,
            initiator=waybill.origin.initiator,
            declarations=waybill.declarations.to_json(),
            previous=waybill.previous,
            turn=waybill.turn,
            waybill_digest=waybill.digest,
            packing_digest=signed.packing.digest,
            segments=signed.segments.count + len(signed.packing.index),
        )
        tx.save_transfer(record)
        tx.put_document(record.id, documents.WAYBILL, signed.waybill_envelope.encode())
        tx.put_document(record.id, documents.PACKING_LIST, signed.packing_envelope.encode())
        tx.put_document(record.id, documents.SEGMENT_LIST, signed.segments.encode())
        tx.put_document(record.id, documents.AGENT_STATEMENT, signed.agent_statement.encode())
        tx.put_document(record.id, documents.decision_name(Gate.OFFER, self._services.site), signed.offer.encode())
        tx.put_document(record.id, documents.proof_name(Gate.OFFER, self._services.site), signed.offer_proof.encode())
        tx.append(
            EntryType.TRANSFER_DECLARED,
            {"transfer": record.id, "peer": peer, "waybill": waybill.digest, "packing": signed.packing.digest},
        )
        return record

    def _answer(self, tx: Transaction, record: TransferRecord) -> ForwardResponse:
        receipt = tx.document(record.id, documents.receipt_name(ReceiptKind.STORED, self._services.site))
        return ForwardResponse(state=record.state, receipt=None if receipt is None else documents.envelope_json(receipt))

    async def put_segment(
        self, peer: SpiffeId, transfer: TransferId, segment: SegmentId, data: bytes | bytearray | memoryview
    ) -> bool:
        """Keep one segment of an open transfer durably; return whether it is new.

        Raises:
            NotFound: E-TRANSFER-UNKNOWN, or E-SEGMENT-UNKNOWN for one that is not on the signed list with this size.
            IntegrityError: E-SEGMENT-CORRUPT.
        """
        services = self._services

        def allowed(tx: Transaction) -> TransferRecord:
            record = transfer_of_peer(tx, peer, transfer)
            step(DESTINATION, record.state, "segment")
            if self._listed_size(tx, record, segment) != len(data):
                raise NotFound("E-SEGMENT-UNKNOWN", f"segment {segment} of {len(data)} bytes is not on the list of {transfer}")
            return record

        await services.catalog.read(allowed)

        def keep(tx: Transaction) -> bool:
            step(DESTINATION, transfer_of_peer(tx, peer, transfer).state, "segment")
            if not tx.add_segment(transfer, StoredSegment(id=segment, size=len(data))):
                return False
            tx.count_segment(transfer, len(data))
            return True

        try:
            async with services.guard.holding(segment):
                await services.store.put_if_absent(segment, data)
                return await services.catalog.write(keep)
        except Conflict:  # it ended, or was recalled, while the segment came in
            await services.remove_unneeded([segment])
            raise

    def _listed_size(self, tx: Transaction, record: TransferRecord, segment: SegmentId) -> int | None:
        """Return the size the signed documents give for `segment`; they are read once, not for each segment."""
        digest = record.packing_digest
        if digest is None:
            return None
        with self._listed_lock:
            listed = self._listed.get(digest)
            if listed is not None:
                self._listed.move_to_end(digest)
        if listed is None:
            pages = {page.id: page.size for page in documents.read_packing(tx, record.id).index}
            listed = _Listed(documents.read_segment_list(tx, record.id), pages)
            with self._listed_lock:
                self._listed[digest] = listed
                while len(self._listed) > 1 and sum(one.segments.count for one in self._listed.values()) > _LISTED_MAX:
                    self._listed.popitem(last=False)
        return listed.pages.get(segment) or listed.segments.size_of(segment)

    async def commit(self, peer: SpiffeId, transfer: TransferId) -> ForwardResponse:
        """Say what is missing, or make the transfer `stored` and answer with the signed receipt."""

        def change(tx: Transaction) -> ForwardResponse:
            record = transfer_of_peer(tx, peer, transfer)
            refuse_recalled(tx, transfer)
            if record.state != "receiving":
                return self._answer(tx, record)
            require_signer(tx, self._services, transfer)
            packing = documents.read_packing(tx, transfer)
            segments = documents.read_segment_list(tx, transfer)
            listed = {SegmentId(segment): size for segment, size in documents.segments_to_hold(packing, segments)}
            here = _already_here(tx, peer, listed)
            missing = [segment for segment in listed if segment not in here]
            if missing:
                return ForwardResponse(state=record.state, missing=tuple(missing[:MISSING_MAX]))
            tx.pin_segments(transfer, here)
            record = replace(record, state=step(DESTINATION, record.state, "commit"), state_at=tx.now)
            tx.save_transfer(record)
            sign_receipt(tx, self._services, record, ReceiptKind.STORED, None)
            return self._answer(tx, record)

        return await self._services.catalog.write(change)

    async def message(self, peer: SpiffeId, transfer: TransferId, message: SiteMessage) -> None:
        """Take a message about a transfer; repeating one that was taken changes nothing."""
        services = self._services
        await services.trust.take_revocations(message.revocations)
        body = message.body
        if isinstance(body, RecallMessage):
            return await self._recalls.take_recall(peer, transfer, body)
        if isinstance(body, ReceiptMessage) and is_deleted_receipt(body):
            return await self._recalls.take_deleted(peer, transfer, body)
        bundle = services.trust.ground(peer.site)
        if isinstance(body, KeyReleaseMessage):
            return await self._unwrapping.take_key(peer, transfer, body, bundle)
        if isinstance(body, ReceiptMessage):
            return await self._take_receipt(peer, transfer, body, bundle)
        return await self._take_decision(peer, transfer, body, bundle)

    async def _take_receipt(self, peer: SpiffeId, transfer: TransferId, body: ReceiptMessage, bundle: TrustBundle) -> None:
        """At the origin: the destination delivered."""
        services = self._services
        site = bundle.site(peer.site)
        receipt = Receipt.open(parse_envelope(body.receipt), [site.signing_key])
        entry = verify_entry_proof(body.proof, log_origin=log_origin(bundle.trust_domain, site.name), key=site.signing_key)
        await self._heads.check(bundle, peer.site, body.proof)
        entry.require(EntryType.RECEIPT_DELIVERED, {"receipt": str(receipt.digest), "transfer": str(transfer)})
        if receipt.kind is not ReceiptKind.DELIVERED:
            raise PeerError("E-REQUEST", f"a {receipt.kind} receipt comes with the commit, not as a message")
        envelope = parse_envelope(body.receipt).encode()

        def keep(tx: Transaction) -> None:
            record, delivery = delivery_to(tx, peer, transfer)
            check_receipt_subject(receipt, record, peer.site)
            if not may(DELIVERY, delivery.state, "deliver"):
                return
            tx.save_delivery(
                replace(
                    delivery,
                    state=step(DELIVERY, delivery.state, "deliver"),
                    state_at=tx.now,
                    outcome=Outcome.ALLOW,
                    reasons=(),
                )
            )
            tx.put_document(transfer, documents.receipt_name(ReceiptKind.DELIVERED, peer.site), envelope)
            tx.put_document(transfer, documents.proof_name(ReceiptKind.DELIVERED, peer.site), body.proof.encode())
            tx.append(
                EntryType.RECEIPT_RECEIVED,
                {"transfer": transfer, "destination": peer.site, "receipt": receipt.digest},
            )

        await services.catalog.write(keep)

    async def _take_decision(self, peer: SpiffeId, transfer: TransferId, body: DecisionMessage, bundle: TrustBundle) -> None:
        """At the origin: the destination decided not to deliver, or put away what it had delivered, and says why."""
        services = self._services
        claimed = Decision.read_unverified(parse_envelope(body.step.decision)).gate
        gate = Gate.RECHECK if claimed is Gate.RECHECK else Gate.RECEIPT
        packing = await services.catalog.read(lambda tx: documents.read_packing(tx, delivery_to(tx, peer, transfer)[0].id))
        decision = verify_step(
            body.step,
            site=bundle.site(peer.site),
            trust_domain=bundle.trust_domain,
            expected=Expected(
                gate=gate,
                transfer=transfer,
                waybill=packing.waybill,
                packing=packing.digest,
                destination=peer.site,
            ),
        )
        await self._heads.check(bundle, peer.site, body.step.proof)
        if decision.outcome is Outcome.ALLOW:
            raise PeerError("E-REQUEST", "a decision to deliver comes as a receipt, not as a decision")
        outcome = decision.outcome
        if gate is Gate.RECHECK:
            if outcome is Outcome.HOLD:
                raise PeerError("E-REQUEST", "a hold at recheck moves nothing, and is not told")
            outcome = Outcome.QUARANTINE  # a denial comes as a recall, unless it is for what is missing
        event = EVENTS_OF_OUTCOME["receipt"][outcome]
        reasons = tuple(reason.to_json() for reason in decision.reasons if reason.outcome is decision.outcome)
        envelope = parse_envelope(body.step.decision).encode()

        def keep(tx: Transaction) -> None:
            _record, delivery = delivery_to(tx, peer, transfer)
            if not may(DELIVERY, delivery.state, event) or delivery.outcome == outcome:
                return
            tx.save_delivery(
                replace(
                    delivery,
                    state=step(DELIVERY, delivery.state, event),
                    state_at=tx.now,
                    outcome=outcome,
                    reasons=reasons,
                )
            )
            # Not under the name of a recheck, which is what this site decides about the delivery.
            name = documents.decision_name(gate, peer.site) if gate is Gate.RECEIPT else documents.told_recheck_name(peer.site)
            tx.put_document(transfer, name, envelope)
            tx.put_document(transfer, documents.proof_name(gate, peer.site), body.step.proof.encode())
            tx.append(
                EntryType.TRANSFER_ENDED,
                {"transfer": transfer, "destination": peer.site, "state": event, "decision": decision.digest},
            )

        await services.catalog.write(keep)


def _already_here(tx: Transaction, peer: SpiffeId, listed: dict[SegmentId, int]) -> dict[SegmentId, int]:
    """Return the listed segments that this peer has sent before: what others sent is not its business, nor its proof.

    Raises:
        PeerError: E-REQUEST for one that is here with another size than the list says.
    """
    here = tx.segment_sizes(listed, sender=peer)
    for segment, size in here.items():
        if listed[segment] != size:
            raise PeerError("E-REQUEST", f"segment {segment} has {size} bytes, the signed list says {listed[segment]}")
    return here
