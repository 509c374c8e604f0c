"""The destination's own decision: verify everything again, ask policy at `receipt`, and deliver, wait, keep locked, or refuse.

Nothing is visible before the last transaction, which points the tag to the artifact, signs the `delivered` receipt and queues
the answer to the origin, all at once (P3). The origin's decision travelled as evidence, not as an order.
"""

from dataclasses import replace

from carnet.decision import Decision, Gate, Outcome
from carnet.entries import EntryType
from carnet.errors import CarnetError, IntegrityError, PeerError
from carnet.identifiers import SegmentId, TransferId
from carnet.receipt import Receipt, ReceiptKind, ReceiptSegments
from carnet.timestamps import format_time
from carnet.transfer import DESTINATION, EVENTS_OF_OUTCOME, step
from carnet.trust import TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.deciding import Judgement, judge_signer, judge_waybill, record_decision
from gateway.ports import Transaction
from gateway.records import ArtifactRecord, JobRecord, TransferRecord
from gateway.services import Services
from gateway.standing import judge_return
from gateway.terms import judge_terms, keep_terms
from gateway.verifying import StoreFault, read_and_verify


class Deliver:
    """Handles `deliver` jobs at the destination; the key is the transfer id."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self, job: JobRecord) -> None:
        """Verify what arrived, decide at `receipt`, and record the outcome with its answer to the origin."""
        transfer = TransferId(job.key)
        services = self._services
        record = await services.catalog.write(lambda tx: _begin(tx, transfer))
        if record is None:
            return
        services.trust.ground(record.origin)  # before the long reading, so that waiting costs nothing
        wrong: CarnetError | None = None
        try:
            await read_and_verify(services, transfer)
        except (StoreFault, IntegrityError, PeerError) as error:
            wrong = error
        waybill = await services.catalog.read(lambda tx: documents.read_waybill(tx, transfer))
        # After the reading, which may take minutes: policy and trust are those of now.
        bundle = services.trust.ground(record.origin)
        orphans = await services.catalog.write(lambda tx: self._decide(tx, transfer, waybill, bundle, wrong))
        await services.remove_unneeded(orphans)

    def _decide(
        self, tx: Transaction, transfer: TransferId, waybill: Waybill, bundle: TrustBundle, wrong: CarnetError | None
    ) -> list[SegmentId]:
        """Record the decision and queue the answer; return the segments that a denial leaves unneeded."""
        record = tx.transfer(transfer)
        if record is None or record.state != "inspecting":
            return []
        judgement = judge_waybill(tx, self._services, bundle, Gate.RECEIPT, waybill, destination=self._services.site)
        if isinstance(wrong, StoreFault):
            judgement = judgement.overruled(Outcome.HOLD, "store", wrong.problem, wrong.remedy)
        elif wrong is not None:
            judgement = judgement.overruled(Outcome.DENY, "integrity", wrong.problem, wrong.remedy)
        judgement = judge_order(tx, judgement, record, waybill)
        judgement = judge_signer(tx, self._services, judgement, transfer)
        judgement = judge_terms(tx, self._services, judgement, transfer)
        judgement = judge_return(tx, self._services, bundle, judgement, waybill)
        record_decision(tx, self._services, judgement, record, destination=self._services.site)
        state = step(DESTINATION, record.state, EVENTS_OF_OUTCOME["receipt"][judgement.outcome])
        tx.save_transfer(
            replace(record, state=state, state_at=tx.now, outcome=judgement.outcome, reasons=judgement.reason_rows())
        )
        if state == "delivered":
            make_visible(tx, self._services, record, waybill)
            tx.queue_job("tell-delivered", transfer)
            return []
        tx.queue_job("tell-decision", transfer)
        if state != "denied":
            return []
        tx.delete_artifact_key(transfer)
        return tx.unpin_transfer(transfer)


def judge_order(tx: Transaction, judgement: Judgement, record: TransferRecord, waybill: Waybill) -> Judgement:
    """Hold what would put an older artifact in the place of a newer one, or one of another origin in its place (`rollback`).

    At the origin the last turn is the one committed last; at a destination it is the one delivered last, which may come back.
    """
    name = f"{record.repository}:{record.tag}"
    known = tx.turn(record.origin, record.repository, record.tag)
    holder = tx.artifact(record.repository, record.tag)
    is_last = known is None or known[1] == waybill.digest or (record.role == "destination" and known[0] < waybill.turn)
    if not is_last and known is not None:
        text = f"turn {waybill.turn} of {name} is not after turn {known[0]}, which is here"
        return judgement.overruled(Outcome.HOLD, "rollback", text, "push the newer artifact again from its origin")
    if holder is not None and holder.origin != record.origin:
        text = f"{name} is here from {holder.origin}, this one comes from {record.origin}"
        return judgement.overruled(Outcome.HOLD, "rollback", text, "use another repository or tag for this origin")
    return judgement


def make_visible(tx: Transaction, services: Services, record: TransferRecord, waybill: Waybill) -> None:
    """Point the tag to the artifact and sign the `delivered` receipt, in the transaction that recorded the decision."""
    former = tx.artifact(record.repository, record.tag)
    tx.save_artifact(
        ArtifactRecord(
            repository=record.repository,
            tag=record.tag,
            transfer=record.id,
            digest=waybill.artifact,
            kind=record.kind,
            media_type=record.media_type,
            size=waybill.size,
            origin=record.origin,
            delivered_at=tx.now,
        )
    )
    if record.role == "destination":
        tx.save_turn(record.origin, record.repository, record.tag, waybill.turn, waybill.digest)
    decision = documents.read_envelope(documents.need(tx, record.id, documents.decision_name(Gate.RECEIPT, services.site)))
    receipt = sign_receipt(tx, services, record, ReceiptKind.DELIVERED, Decision.read_unverified(decision).digest)
    tx.append(
        EntryType.ARTIFACT_VISIBLE,
        {
            "transfer": record.id,
            "repository": record.repository,
            "tag": record.tag,
            "artifact": waybill.artifact,
            "replaces": None if former is None else former.digest,
            "receipt": receipt,
        },
    )
    keep_terms(tx, services, record)


def sign_receipt(tx: Transaction, services: Services, record: TransferRecord, kind: ReceiptKind, decision: str | None) -> str:
    """Sign, keep and log a receipt of this site for the transfer; return its digest."""
    waybill = documents.read_waybill(tx, record.id)
    packing = documents.read_packing(tx, record.id)
    segments = documents.read_segment_list(tx, record.id)
    receipt = Receipt.model_validate(
        {
            "kind": kind,
            "site": services.site,
            "transfer": record.id,
            "waybill": waybill.digest,
            "packing": packing.digest,
            "artifact": waybill.artifact,
            "segments": ReceiptSegments(
                count=segments.count + len(packing.index), bytes=segments.bytes + sum(page.size for page in packing.index)
            ),
            "decision": decision,
            "at": format_time(tx.now),
        }
    )
    envelope = receipt.sign(services.keyring.signing)
    tx.put_document(record.id, documents.receipt_name(kind, services.site), envelope.encode())
    entry = EntryType.RECEIPT_DELIVERED if kind is ReceiptKind.DELIVERED else EntryType.RECEIPT_STORED
    index = tx.append(entry, {"transfer": record.id, "receipt": receipt.digest, "artifact": waybill.artifact})
    tx.put_document(record.id, documents.receipt_index_name(kind, services.site), str(index).encode("ascii"))
    return receipt.digest


def _begin(tx: Transaction, transfer: TransferId) -> TransferRecord | None:
    record = tx.transfer(transfer)
    if record is None or record.state not in {"released", "inspecting", "held", "quarantined"}:
        return None
    record = replace(record, state=step(DESTINATION, record.state, "inspect"), state_at=tx.now)
    tx.save_transfer(record)
    return record
