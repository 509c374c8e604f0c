"""The origin's own decision: verify the content, ask policy, and say yes, wait, or no; a job, so it survives a crash.

On a sealed lane the content stays closed: policy decides from what was declared, and knows that nobody here inspected it.

A transfer to this very site is decided at `receipt` and delivered here. One to other sites is decided at `offer`, for each
destination; what is allowed is queued to be forwarded, and not a byte leaves before that decision is under a checkpoint.
"""

from dataclasses import replace

from carnet.decision import Gate, Outcome
from carnet.entries import EntryType
from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import SegmentId, TransferId
from carnet.messages import ReasonView
from carnet.recall import RecallCause
from carnet.transfer import DELIVERY, EVENTS_OF_OUTCOME, ORIGIN, may, step
from carnet.trust import TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.approving import judge_delivery, queue_review, record_delivery
from gateway.base_rule import judge_recalled_bases
from gateway.deciding import Judgement, judge_signer, judge_waybill, record_decision
from gateway.deliver import judge_order, make_visible
from gateway.forward import parse_delivery_key
from gateway.ports import Transaction
from gateway.recall_signing import announce
from gateway.records import DeliveryRecord, JobRecord, TransferRecord
from gateway.services import Services
from gateway.verifying import StoreFault, read_and_verify, read_sealed


class Admit:
    """Handles `admit` jobs; the key is the transfer id."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self, job: JobRecord) -> None:
        """Verify, decide and record; running again after a crash decides again or finds it decided."""
        transfer = TransferId(job.key)
        services = self._services
        record = await services.catalog.write(lambda tx: _begin(tx, transfer))
        if record is None:
            return
        packing = await services.catalog.read(lambda tx: documents.read_packing(tx, transfer))
        opens = services.site in packing.sites
        try:
            waybill = await (read_and_verify if opens else read_sealed)(services, transfer)
        except StoreFault as fault:
            reason = ReasonView(rule="store", outcome=Outcome.HOLD, text=fault.problem, remedy=fault.remedy)
            await services.catalog.write(lambda tx: _hold(tx, transfer, reason))
            return
        except (IntegrityError, PeerError) as error:
            reason = ReasonView(rule="integrity", outcome=Outcome.DENY, text=error.problem, remedy=error.remedy)
            await services.remove_unneeded(await services.catalog.write(lambda tx: _deny(tx, transfer, reason)))
            return
        bundle = services.trust.ground()
        home = record.destinations == (services.site,)
        gate = Gate.RECEIPT if home else Gate.OFFER
        orphans = await services.catalog.write(lambda tx: self._decide(tx, transfer, waybill, gate, bundle))
        await services.remove_unneeded(orphans)

    async def offer(self, job: JobRecord) -> None:
        """Handle an `offer` job, for `<transfer>/<destination>`: decide again about a delivery that waits at the offer."""
        transfer, destination = parse_delivery_key(job.key)
        services = self._services
        bundle = services.trust.ground(destination)
        waybill = await services.catalog.read(lambda tx: documents.read_waybill(tx, transfer))

        def decide(tx: Transaction) -> None:
            record = tx.transfer(transfer)
            for delivery in tx.deliveries(transfer):
                if record is not None and record.state == "admitted" and delivery.destination == destination:
                    self._settle(tx, record, waybill, delivery, Gate.OFFER, bundle)

        await services.catalog.write(decide)

    def _decide(
        self,
        tx: Transaction,
        transfer: TransferId,
        waybill: Waybill,
        gate: Gate,
        bundle: TrustBundle,
    ) -> list[SegmentId]:
        """Record every delivery's decision and the transfer's; return the segments that a denial leaves unneeded."""
        record = tx.transfer(transfer)
        if record is None or record.state != "inspecting":
            return []
        opened = self._services.site in documents.read_packing(tx, transfer).sites
        tx.append(EntryType.TRANSFER_INSPECTED, {"transfer": transfer, "artifact": waybill.artifact, "opened": opened})
        settled = [self._settle(tx, record, waybill, delivery, gate, bundle) for delivery in tx.deliveries(transfer)]
        best = min(settled, key=lambda judgement: judgement.outcome.strictness)
        state = step(ORIGIN, record.state, EVENTS_OF_OUTCOME["admit"][best.outcome])
        tx.save_transfer(replace(record, state=state, state_at=tx.now, outcome=best.outcome, reasons=best.reason_rows()))
        if state != "denied":
            return []
        tx.delete_artifact_key(transfer)
        return tx.unpin_transfer(transfer)

    def _settle(
        self,
        tx: Transaction,
        record: TransferRecord,
        waybill: Waybill,
        delivery: DeliveryRecord,
        gate: Gate,
        bundle: TrustBundle,
    ) -> Judgement:
        """Record the decision about one delivery, queue what follows, and return it; one past its decision is left alone."""
        services, destination = self._services, delivery.destination
        judgement = judge_waybill(tx, services, bundle, gate, waybill, destination=destination)
        at_home = gate is Gate.RECEIPT
        if not may(DELIVERY, delivery.state, "deliver" if at_home else "offer-allow"):
            return _as_decided(judgement, delivery)
        if at_home:
            judgement = judge_signer(tx, services, judge_order(tx, judgement, record, waybill), record.id)
            judgement = judge_recalled_bases(tx, judgement, record.id, destination)
            record_decision(tx, services, judgement, record, destination=destination)
        else:
            judgement = judge_delivery(tx, services, bundle, judgement, record, destination)
            record_delivery(tx, services, judgement, record, destination)
        state = step(DELIVERY, delivery.state, EVENTS_OF_OUTCOME["receipt" if at_home else "offer"][judgement.outcome])
        saved = replace(
            delivery,
            state=state,
            state_at=delivery.state_at if state == delivery.state else tx.now,
            outcome=judgement.outcome,
            reasons=judgement.reason_rows(),
            segments=record.segments,
        )
        tx.save_delivery(saved)
        queue_review(tx, services, saved, judgement)
        if state == "sending":
            tx.queue_job("forward", f"{record.id}/{destination}")
        elif state == "offer-deny":
            reason = judgement.views[0].text
            announce(tx, services, record, cause=RecallCause.DENIED, reason=reason, deliveries=[saved])
        elif state == "delivered":
            make_visible(tx, services, record, waybill)
        return judgement


def _as_decided(judgement: Judgement, delivery: DeliveryRecord) -> Judgement:
    """Return the judgement as it stands about a delivery that was denied before: it does not keep its transfer waiting."""
    if delivery.outcome != Outcome.DENY:
        return judgement
    extra = tuple(ReasonView.model_validate(row) for row in delivery.reasons)
    return replace(judgement, outcome=Outcome.DENY, extra=extra)


def _begin(tx: Transaction, transfer: TransferId) -> TransferRecord | None:
    """Move to `inspecting`; None if there is nothing (any more) to decide."""
    record = tx.transfer(transfer)
    if record is None or record.state not in {"received", "inspecting", "held", "quarantined"}:
        return None
    record = replace(record, state=step(ORIGIN, record.state, "inspect"), state_at=tx.now)
    tx.save_transfer(record)
    return record


def _hold(tx: Transaction, transfer: TransferId, reason: ReasonView) -> None:
    """Hold what this site cannot read back: the sender did nothing wrong, and nothing is thrown away."""
    record = tx.transfer(transfer)
    if record is None or record.state != "inspecting":
        return
    rows = (reason.model_dump(mode="json"),)
    tx.save_transfer(
        replace(record, state=step(ORIGIN, record.state, "hold"), state_at=tx.now, outcome=Outcome.HOLD, reasons=rows)
    )


def _deny(tx: Transaction, transfer: TransferId, reason: ReasonView) -> list[SegmentId]:
    """Deny content that is not what was signed, for every destination; return the segments left unneeded."""
    record = tx.transfer(transfer)
    if record is None or record.state != "inspecting":
        return []
    rows = (reason.model_dump(mode="json"),)
    for delivery in tx.deliveries(transfer):
        event = next((event for event in ("deny", "offer-deny") if may(DELIVERY, delivery.state, event)), None)
        if event is not None:
            state = step(DELIVERY, delivery.state, event)
            tx.save_delivery(replace(delivery, state=state, state_at=tx.now, outcome=Outcome.DENY, reasons=rows))
    tx.save_transfer(
        replace(record, state=step(ORIGIN, record.state, "deny"), state_at=tx.now, outcome=Outcome.DENY, reasons=rows)
    )
    tx.delete_artifact_key(transfer)
    tx.append(EntryType.TRANSFER_ENDED, {"transfer": transfer, "state": "denied", "why": reason.text})
    return tx.unpin_transfer(transfer)
