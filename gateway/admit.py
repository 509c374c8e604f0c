"""The origin's own decision: verify the content, ask policy, and say yes, wait, or no; a job, so it survives a crash.

A transfer to this very site is decided at `receipt` and delivered here. One to other sites is decided at `offer`, for each
destination; what is allowed is queued to be forwarded, and not a byte leaves before that decision is under a checkpoint.
"""

from dataclasses import replace

from carnet.decision import Gate, Outcome
from carnet.entries import EntryType
from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import SiteName, TransferId
from carnet.messages import ReasonView
from carnet.transfer import DELIVERY, ORIGIN, step
from carnet.waybill import Waybill
from gateway import documents
from gateway.deciding import Judgement, judge_waybill, record_decision
from gateway.deliver import make_visible
from gateway.ports import Transaction
from gateway.records import JobRecord, TransferRecord
from gateway.services import Services
from gateway.verifying import verify_content

_EVENT_OF: dict[Outcome, str] = {
    Outcome.ALLOW: "admit",
    Outcome.HOLD: "hold",
    Outcome.QUARANTINE: "quarantine",
    Outcome.DENY: "deny",
}
_OFFER_EVENT_OF: dict[Outcome, str] = {
    Outcome.ALLOW: "offer-allow",
    Outcome.HOLD: "offer-hold",
    Outcome.QUARANTINE: "offer-deny",
    Outcome.DENY: "offer-deny",
}
_RECEIPT_EVENT_OF: dict[Outcome, str] = {
    Outcome.ALLOW: "deliver",
    Outcome.HOLD: "hold",
    Outcome.QUARANTINE: "quarantine",
    Outcome.DENY: "deny",
}


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
        try:
            await self._verify(transfer)
        except (IntegrityError, PeerError) as error:
            reason = ReasonView(rule="integrity", outcome=Outcome.DENY, text=error.problem, remedy=error.remedy)
            await services.catalog.write(lambda tx: _deny(tx, transfer, reason))
            return
        bundle = services.trust.state().fresh(services.clock.now())
        waybill = await services.catalog.read(lambda tx: documents.read_waybill(tx, transfer))
        home = record.destinations == (services.site,)
        gate = Gate.RECEIPT if home else Gate.OFFER
        judgements = {
            destination: judge_waybill(services, bundle, gate, waybill, destination=destination)
            for destination in record.destinations
        }
        await services.catalog.write(lambda tx: self._decide(tx, transfer, waybill, gate, judgements))

    async def _verify(self, transfer: TransferId) -> None:
        services = self._services
        waybill, packing, segments, sealed_key = await services.catalog.read(
            lambda tx: (
                documents.read_waybill(tx, transfer),
                documents.read_packing(tx, transfer),
                documents.read_segment_list(tx, transfer),
                tx.artifact_key(transfer),
            )
        )
        if sealed_key is None:
            raise IntegrityError("E-COMMITMENT", f"the artifact key of {transfer} is gone")
        await verify_content(services.store, waybill, packing, segments, services.keyring.open(sealed_key, transfer.raw))

    def _decide(
        self, tx: Transaction, transfer: TransferId, waybill: Waybill, gate: Gate, judgements: dict[SiteName, Judgement]
    ) -> None:
        record = tx.transfer(transfer)
        if record is None or record.state != "inspecting":
            return
        tx.append(EntryType.TRANSFER_INSPECTED, {"transfer": transfer, "artifact": waybill.artifact})
        event_of = _RECEIPT_EVENT_OF if gate is Gate.RECEIPT else _OFFER_EVENT_OF
        for delivery in tx.deliveries(transfer):
            judgement = judgements[delivery.destination]
            record_decision(tx, self._services, judgement, record, destination=delivery.destination)
            state = step(DELIVERY, delivery.state, event_of[judgement.outcome])
            tx.save_delivery(
                replace(
                    delivery,
                    state=state,
                    state_at=tx.now,
                    outcome=judgement.outcome,
                    reasons=judgement.reason_rows(),
                    segments=record.segments,
                )
            )
            if state == "sending":
                tx.queue_job("forward", f"{transfer}/{delivery.destination}")
            elif state == "delivered":
                make_visible(tx, self._services, record, waybill)
        best = min(judgements.values(), key=lambda judgement: judgement.outcome.strictness)
        tx.save_transfer(
            replace(
                record,
                state=step(ORIGIN, record.state, _EVENT_OF[best.outcome]),
                state_at=tx.now,
                outcome=best.outcome,
                reasons=best.reason_rows(),
            )
        )


def _begin(tx: Transaction, transfer: TransferId) -> TransferRecord | None:
    """Move to `inspecting`; None if there is nothing (any more) to decide."""
    record = tx.transfer(transfer)
    if record is None or record.state not in {"received", "inspecting", "held", "quarantined"}:
        return None
    record = replace(record, state=step(ORIGIN, record.state, "inspect"), state_at=tx.now)
    tx.save_transfer(record)
    return record


def _deny(tx: Transaction, transfer: TransferId, reason: ReasonView) -> None:
    """Content that is not what was signed is denied for every destination."""
    record = tx.transfer(transfer)
    if record is None or record.state != "inspecting":
        return
    rows = (reason.model_dump(mode="json"),)
    for delivery in tx.deliveries(transfer):
        tx.save_delivery(
            replace(delivery, state=step(DELIVERY, delivery.state, "deny"), state_at=tx.now, outcome=Outcome.DENY, reasons=rows)
        )
    tx.save_transfer(
        replace(record, state=step(ORIGIN, record.state, "deny"), state_at=tx.now, outcome=Outcome.DENY, reasons=rows)
    )
    tx.delete_artifact_key(transfer)
    tx.append(EntryType.TRANSFER_ENDED, {"transfer": transfer, "state": "denied", "why": reason.text})
