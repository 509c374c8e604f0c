"""Takes recalls and `deleted` receipts from peers: verified against the trust bundle, then obeyed or kept, in one transaction.

They are taken whatever policy, revocation sets and the clock say: to withdraw gives nothing away. A recall by the origin of the
transfer withdraws it here; one by a destination ends that delivery at its origin, and nothing else. Saying either again changes
nothing.
"""

from dataclasses import replace

from carnet.checkpoint import log_origin
from carnet.decision import Outcome
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import IntegrityError, NotFound
from carnet.identifiers import SiteName, SpiffeId, TransferId
from carnet.messages import RecallMessage, ReceiptMessage
from carnet.proof import verify_entry_proof
from carnet.recall import Recall, verify_recall
from carnet.receipt import Receipt, ReceiptKind
from carnet.timestamps import format_time
from carnet.transfer import DELIVERY, DESTINATION, may, step
from carnet.trust import TrustBundle
from gateway import documents
from gateway.forward import check_receipt_subject
from gateway.heads import Heads
from gateway.ownership import delivery_to
from gateway.ports import Transaction
from gateway.recall_signing import read_recall, recall_reason
from gateway.records import TransferRecord
from gateway.services import Services
from gateway.withdrawing import refuse_unknown, withdraw


class RecallInbox:
    """The part of `Inbound` that is about withdrawals; every call names the authenticated peer."""

    def __init__(self, services: Services, heads: Heads) -> None:
        """Use the site's services and what it knows of its peers' logs."""
        self._services = services
        self._heads = heads

    async def take_recall(self, peer: SpiffeId, transfer: TransferId, body: RecallMessage) -> None:
        """Obey the recall of an origin, or note that a destination withdrew for itself.

        Raises:
            IntegrityError: E-SIGNATURE, E-PROOF, or a recall that is about something else. NotFound: E-TRANSFER-UNKNOWN for who
            has nothing to do with the transfer, or no lane to here.
        """
        bundle = self._services.trust.state().current
        envelope = parse_envelope(body.recall)
        recall = verify_recall(envelope, body.proof, site=bundle.site(peer.site), trust_domain=bundle.trust_domain)
        if recall.transfer != transfer:
            raise IntegrityError("E-SIGNATURE", f"a recall of {recall.transfer} came as one of {transfer}")
        await self._heads.check(bundle, peer.site, body.proof)
        signed, proof = envelope.encode(), body.proof.encode()

        def take(tx: Transaction) -> None:
            record = tx.transfer(transfer)
            if record is None:
                self._remember(tx, recall, signed, bundle)
            elif record.role == "destination" and record.sender == peer:
                self._obey(tx, record, recall, signed, proof)
            else:
                self._note(tx, peer, transfer, recall, signed, proof)

        await self._services.catalog.write(take)

    def _remember(self, tx: Transaction, recall: Recall, signed: bytes, bundle: TrustBundle) -> None:
        """Keep out what is recalled before it came: a declaration that is late, or said again, is refused."""
        here = self._services.site
        if not any(here in lane.destinations for lane in bundle.lanes_from(recall.site)) or here not in recall.tell:
            raise NotFound("E-TRANSFER-UNKNOWN", f"no transfer {recall.transfer} of yours")
        if tx.site_document(documents.recalled_unknown_name(recall.transfer, "recall")) is not None:
            tx.queue_job("tell-deleted", recall.transfer)
            return
        _log_received(tx, recall)
        refuse_unknown(tx, self._services, recall, signed)

    def _obey(self, tx: Transaction, record: TransferRecord, recall: Recall, signed: bytes, proof: bytes) -> None:
        """Withdraw the transfer here because its origin says so."""
        self._check_subject(record, recall, self._services.site)
        if record.state == "recalled":
            if tx.document(record.id, documents.receipt_name(ReceiptKind.DELETED, self._services.site)) is not None:
                tx.queue_job("tell-deleted", record.id)
            return
        state = step(DESTINATION, record.state, "recall")
        _log_received(tx, recall)
        tx.put_document(record.id, documents.proof_name("recall", recall.site), proof)
        withdraw(tx, record, recall, signed)
        reasons = (recall_reason(recall),)
        tx.save_transfer(replace(record, state=state, state_at=tx.now, outcome=Outcome.DENY, reasons=reasons))

    def _note(self, tx: Transaction, peer: SpiffeId, transfer: TransferId, recall: Recall, signed: bytes, proof: bytes) -> None:
        """At the origin: the destination withdrew for itself, so this delivery has ended; the others go on."""
        record, delivery = delivery_to(tx, peer, transfer)
        self._check_subject(record, recall, record.origin)
        name = documents.recall_by_name(peer.site)
        if tx.document(transfer, name) is not None:
            return
        _log_received(tx, recall)
        tx.put_document(transfer, name, signed)
        tx.put_document(transfer, documents.proof_name("recall", peer.site), proof)
        if may(DELIVERY, delivery.state, "recall"):
            state = step(DELIVERY, delivery.state, "recall")
            reasons = (recall_reason(recall),)
            tx.save_delivery(replace(delivery, state=state, state_at=tx.now, outcome=Outcome.DENY, reasons=reasons, error=None))

    def _check_subject(self, record: TransferRecord, recall: Recall, told: SiteName) -> None:
        found = (recall.waybill, recall.packing, recall.artifact)
        if found != (record.waybill_digest, record.packing_digest, record.digest) or told not in recall.tell:
            raise IntegrityError("E-SIGNATURE", f"the recall of {recall.site} is not about {record.id} as it is here")

    async def take_deleted(self, peer: SpiffeId, transfer: TransferId, body: ReceiptMessage) -> None:
        """At the origin: keep what the destination signed about what it deleted, and what stays.

        Raises:
            IntegrityError: E-SIGNATURE, E-PROOF, or a receipt that answers no recall of this delivery. NotFound.
        """
        services = self._services
        bundle = services.trust.state().current
        site = bundle.site(peer.site)
        envelope = parse_envelope(body.receipt)
        receipt = Receipt.open(envelope, [site.signing_key])
        entry = verify_entry_proof(body.proof, log_origin=log_origin(bundle.trust_domain, site.name), key=site.signing_key)
        entry.require(EntryType.RECEIPT_DELETED, {"receipt": str(receipt.digest), "transfer": str(transfer)})
        await self._heads.check(bundle, peer.site, body.proof)

        def keep(tx: Transaction) -> None:
            record, delivery = delivery_to(tx, peer, transfer)
            check_receipt_subject(receipt, record, peer.site)
            _check_answers(tx, record, peer.site, receipt)
            name = documents.receipt_name(ReceiptKind.DELETED, peer.site)
            if tx.document(transfer, name) is not None:
                return
            tx.put_document(transfer, name, envelope.encode())
            tx.put_document(transfer, documents.proof_name(ReceiptKind.DELETED, peer.site), body.proof.encode())
            at = format_time(tx.now).encode("ascii")
            tx.put_document(transfer, documents.recall_acknowledged_name(peer.site), at)
            tx.save_delivery(replace(delivery, error=None))
            tx.append(
                EntryType.RECEIPT_RECEIVED,
                {"transfer": transfer, "destination": peer.site, "receipt": receipt.digest},
            )

        await services.catalog.write(keep)


def is_deleted_receipt(body: ReceiptMessage) -> bool:
    """Tell whether the message claims to be about a deletion; nothing is verified yet."""
    return Receipt.read_unverified(parse_envelope(body.receipt)).kind is ReceiptKind.DELETED


def _check_answers(tx: Transaction, record: TransferRecord, destination: SiteName, receipt: Receipt) -> None:
    """Raise `IntegrityError` E-SIGNATURE unless the receipt answers a recall of this delivery: ours, or the destination's own."""
    names = (documents.recall_to_name(destination), documents.recall_by_name(destination))
    bodies = (tx.document(record.id, name) for name in names)
    known = {read_recall(body).digest for body in bodies if body is not None}
    if receipt.deletion is None or receipt.deletion.recall not in known:
        raise IntegrityError("E-SIGNATURE", f"the deleted receipt of {destination} answers no recall of {record.id}")


def _log_received(tx: Transaction, recall: Recall) -> None:
    tx.append(
        EntryType.RECALL_RECEIVED,
        {
            "transfer": recall.transfer,
            "recall": recall.digest,
            "site": recall.site,
            "cause": recall.cause.value,
            "reason": recall.reason,
            "by": recall.by,
        },
    )
