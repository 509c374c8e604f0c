"""Sends an admitted artifact to one destination: what it does not have, over several connections, then asks for its receipt.

A job, so it survives a crash: the destination says what is missing, so nothing acknowledged is sent twice (P6). Not a byte leaves
before the `offer` decision is under a checkpoint, and the destination checks that (P1). If policy or trust changed since the
decision, it is taken again first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from carnet.decision import Gate, Outcome
from carnet.encoding import encode_base64
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, IntegrityError, Unavailable
from carnet.identifiers import SegmentId, SiteName, TransferId
from carnet.messages import ForwardRequest, ForwardResponse, ReasonView
from carnet.recall import RecallCause
from carnet.receipt import Receipt, ReceiptKind
from carnet.transfer import DELIVERY, EVENTS_OF_OUTCOME, may, step
from carnet.trust import TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.approving import judge_delivery, queue_review, record_delivery
from gateway.courier import Line
from gateway.deciding import is_current, judge_waybill, require_signer, signed_step
from gateway.ports import Transaction
from gateway.recall_signing import announce
from gateway.records import DeliveryRecord, JobRecord, TransferRecord
from gateway.services import Services


@dataclass(frozen=True)
class _Load:
    """What a forward needs of the transfer."""

    record: TransferRecord
    waybill: Waybill
    request_parts: dict[str, bytes]
    sizes: dict[SegmentId, int]


class Forward:
    """Handles `forward` jobs; the key is `<transfer>/<destination>`."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self, job: JobRecord) -> None:
        """Bring one delivery from `sending` to `stored`; a temporary failure leaves it `retrying` and is raised for the queue."""
        transfer, destination = parse_delivery_key(job.key)
        services = self._services
        load = await services.catalog.write(lambda tx: _begin(tx, transfer, destination))
        if load is None:
            return
        try:
            bundle = services.trust.ground(destination)
            if not await self._still_allowed(load, destination, bundle):
                return
            await self._send(load, destination, bundle, job)
        except _NoLongerWanted:
            return  # whoever ended it has told the destination
        except CarnetError as error:
            problem = str(error)
            await services.catalog.write(lambda tx: _note_failure(tx, transfer, destination, problem))
            raise

    async def _still_allowed(self, load: _Load, destination: SiteName, bundle: TrustBundle) -> bool:
        """Decide again if policy, trust or time moved since the decision; tell whether sending may go on."""
        services = self._services
        transfer = load.record.id
        decision = await services.catalog.read(lambda tx: is_current(tx, services, bundle, transfer, Gate.OFFER, destination))
        if decision:
            return True

        def decide(tx: Transaction) -> bool:
            outcome = None
            for delivery in _delivery(tx, transfer, destination):
                if not may(DELIVERY, delivery.state, "offer-allow"):
                    return False
                asked = judge_waybill(tx, services, bundle, Gate.OFFER, load.waybill, destination=destination)
                judgement = judge_delivery(tx, services, bundle, asked, load.record, destination)
                record_delivery(tx, services, judgement, load.record, destination)
                outcome = judgement.outcome
                state = step(DELIVERY, delivery.state, EVENTS_OF_OUTCOME["offer"][outcome])
                saved = replace(
                    delivery, state=state, state_at=tx.now, outcome=judgement.outcome, reasons=judgement.reason_rows()
                )
                tx.save_delivery(saved)
                queue_review(tx, services, saved, judgement)
                if state == "offer-deny":
                    reason = judgement.views[0].text
                    announce(tx, services, load.record, cause=RecallCause.DENIED, reason=reason, deliveries=[saved])
            return outcome is Outcome.ALLOW

        return await services.catalog.write(decide)

    async def _send(self, load: _Load, destination: SiteName, bundle: TrustBundle, job: JobRecord) -> None:
        services, transfer = self._services, load.record.id
        line = await services.courier.line(transfer, destination, job)
        offer = await signed_step(services, transfer, Gate.OFFER, destination)
        request = ForwardRequest(
            transfer=transfer,
            site=services.site,
            waybill=documents.envelope_json(load.request_parts[documents.WAYBILL]),
            agent_statement=documents.envelope_json(load.request_parts[documents.AGENT_STATEMENT]),
            packing_list=documents.envelope_json(load.request_parts[documents.PACKING_LIST]),
            segment_list=encode_base64(load.request_parts[documents.SEGMENT_LIST]),
            offer=offer,
            revocations=services.trust.own_revocations().revocations,
        )
        await self._check_wanted(transfer, destination)
        answer = await line.declare(request)
        seen: tuple[SegmentId, ...] = ()
        while answer.missing and answer.missing != seen:
            seen = answer.missing
            await self._send_segments(line, transfer, destination, load.sizes, answer.missing)
            answer = await line.commit()
        if answer.missing:
            raise Unavailable("E-SEGMENT-MISSING", f"{destination} still misses {len(answer.missing)} segments of {transfer}")
        if answer.receipt is None and answer.state == "receiving":
            answer = await line.commit()
        if answer.receipt is None:
            await services.catalog.write(lambda tx: end_refused(tx, transfer, destination, f"it is {answer.state} there"))
            return
        receipt = self._check_receipt(answer, load, destination, bundle)
        body = parse_envelope(answer.receipt).encode()
        await services.catalog.write(lambda tx: _stored(tx, transfer, destination, receipt, body))

    async def _check_wanted(self, transfer: TransferId, destination: SiteName) -> None:
        """Raise `_NoLongerWanted` unless the delivery is still to be sent: it may have been cancelled meanwhile.

        Raises:
            NotAuthorised: E-REVOKED if the originator was revoked meanwhile; the next run decides again.
        """
        services = self._services

        def look(tx: Transaction) -> list[DeliveryRecord]:
            require_signer(tx, services, transfer)
            return _delivery(tx, transfer, destination)

        deliveries = await services.catalog.read(look)
        if not any(delivery.state == "sending" for delivery in deliveries):
            raise _NoLongerWanted

    async def _send_segments(
        self,
        line: Line,
        transfer: TransferId,
        destination: SiteName,
        sizes: dict[SegmentId, int],
        missing: Sequence[SegmentId],
    ) -> None:
        unexpected = [segment for segment in missing if segment not in sizes]
        if unexpected:
            raise IntegrityError("E-SEGMENT-UNKNOWN", f"{destination} asks for {unexpected[0]}, which is not on the segment list")
        services = self._services

        async def count(segments: int, sent: int) -> None:
            await services.catalog.write(lambda tx: _count(tx, transfer, destination, segments, sent))
            await self._check_wanted(transfer, destination)

        await line.send({segment: sizes[segment] for segment in missing}, count)

    def _check_receipt(self, answer: ForwardResponse, load: _Load, destination: SiteName, bundle: TrustBundle) -> Receipt:
        if answer.receipt is None:
            raise IntegrityError("E-SIGNATURE", f"{destination} committed {load.record.id} but gave no receipt")
        receipt = Receipt.open(parse_envelope(answer.receipt), [bundle.site(destination).signing_key])
        check_receipt_subject(receipt, load.record, destination)
        return receipt


class _NoLongerWanted(Exception):
    """The delivery was cancelled while it was being sent."""


def end_refused(tx: Transaction, transfer: TransferId, destination: SiteName, why: str) -> None:
    """End a delivery that the destination has ended by itself: it takes neither segments nor key any more."""
    text = f"{destination} ended this transfer: {why}"
    reason = ReasonView(rule="destination", outcome="deny", text=text, remedy="ask its operator, then push again")
    for delivery in _delivery(tx, transfer, destination):
        if may(DELIVERY, delivery.state, "deny"):
            tx.save_delivery(
                replace(
                    delivery,
                    state=step(DELIVERY, delivery.state, "deny"),
                    state_at=tx.now,
                    outcome=Outcome.DENY,
                    reasons=(reason.model_dump(mode="json"),),
                )
            )
            tx.append(
                EntryType.TRANSFER_ENDED, {"transfer": transfer, "destination": destination, "state": "denied", "why": text}
            )


def check_receipt_subject(receipt: Receipt, record: TransferRecord, destination: SiteName) -> None:
    """Raise `IntegrityError` E-SIGNATURE unless the receipt, already verified, is about this delivery."""
    found = (receipt.site, receipt.transfer, receipt.waybill, receipt.packing, receipt.artifact)
    if found != (destination, record.id, record.waybill_digest, record.packing_digest, record.digest):
        about = f"{record.id} to {destination}"
        raise IntegrityError("E-SIGNATURE", f"the {receipt.kind} receipt of {receipt.site} is not about {about}")


def parse_delivery_key(key: str) -> tuple[TransferId, SiteName]:
    """Return transfer and destination of a delivery's job key."""
    transfer, _, destination = key.partition("/")
    return TransferId(transfer), SiteName(destination)


def _delivery(tx: Transaction, transfer: TransferId, destination: SiteName) -> list[DeliveryRecord]:
    return [delivery for delivery in tx.deliveries(transfer) if delivery.destination == destination]


def _begin(tx: Transaction, transfer: TransferId, destination: SiteName) -> _Load | None:
    record = tx.transfer(transfer)
    if record is None or record.state != "admitted":
        return None
    for delivery in _delivery(tx, transfer, destination):
        state = step(DELIVERY, delivery.state, "send") if may(DELIVERY, delivery.state, "send") else delivery.state
        if state != "sending":
            return None
        tx.save_delivery(replace(delivery, state=state, state_at=tx.now, attempts=delivery.attempts + 1, error=None))
        packing, segments = documents.read_packing(tx, transfer), documents.read_segment_list(tx, transfer)
        names = (documents.WAYBILL, documents.AGENT_STATEMENT, documents.PACKING_LIST, documents.SEGMENT_LIST)
        return _Load(
            record,
            documents.read_waybill(tx, transfer),
            {name: documents.need(tx, transfer, name) for name in names},
            {SegmentId(identifier): size for identifier, size in documents.segments_to_hold(packing, segments)},
        )
    return None


def _note_failure(tx: Transaction, transfer: TransferId, destination: SiteName, problem: str) -> None:
    for delivery in _delivery(tx, transfer, destination):
        if may(DELIVERY, delivery.state, "fail"):
            tx.save_delivery(replace(delivery, state=step(DELIVERY, delivery.state, "fail"), state_at=tx.now, error=problem))


def _count(tx: Transaction, transfer: TransferId, destination: SiteName, segments: int, sent: int) -> None:
    for delivery in _delivery(tx, transfer, destination):
        tx.save_delivery(
            replace(delivery, segments_sent=delivery.segments_sent + segments, bytes_sent=delivery.bytes_sent + sent)
        )


def _stored(tx: Transaction, transfer: TransferId, destination: SiteName, receipt: Receipt, body: bytes) -> None:
    for delivery in _delivery(tx, transfer, destination):
        if not may(DELIVERY, delivery.state, "store"):
            continue
        tx.save_delivery(replace(delivery, state=step(DELIVERY, delivery.state, "store"), state_at=tx.now, error=None))
        tx.put_document(transfer, documents.receipt_name(ReceiptKind.STORED, destination), body)
        tx.append(
            EntryType.SEGMENTS_SENT,
            {
                "transfer": transfer,
                "destination": destination,
                "segments": delivery.segments_sent,
                "bytes": delivery.bytes_sent,
            },
        )
        tx.append(EntryType.RECEIPT_RECEIVED, {"transfer": transfer, "destination": destination, "receipt": receipt.digest})
        tx.queue_job("release", f"{transfer}/{destination}")
