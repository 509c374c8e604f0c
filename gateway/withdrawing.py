"""Withdraws a recalled transfer at this site: nobody pulls it, its key is destroyed, what nothing else needs is deleted.

Steps: (1) in the transaction that records the recall the tag goes, the key and its wraps are destroyed and the segments lose
their claim, so that nothing is visible or can be opened from then on; (2) a job deletes the files; (3) only then the `deleted`
receipt is signed and logged, and the origin, if that is another site, is told. A crash anywhere is followed by the same job.
"""

from carnet.entries import EntryType
from carnet.errors import InternalError
from carnet.identifiers import SegmentId, SiteName, SpiffeId, TransferId
from carnet.limits import STATEMENT_BYTES_MAX
from carnet.messages import ReceiptMessage, SiteMessage
from carnet.recall import Recall
from carnet.receipt import Deletion, Receipt, ReceiptKind, ReceiptSegments
from carnet.statement import WireModel, parse_model
from carnet.timestamps import format_time
from gateway import documents
from gateway.ports import Transaction
from gateway.recall_signing import read_recall, recall_message
from gateway.records import JobRecord, TransferRecord
from gateway.services import Services

_SEGMENT_ID_BYTES = 33
_DELETED_NUMBER = 2


class Withdrawal(WireModel):
    """What step (1) did: kept until the receipt says it."""

    deleted: ReceiptSegments
    deletion: Deletion


def withdraw(tx: Transaction, record: TransferRecord, recall: Recall, envelope: bytes) -> None:
    """Do step (1) for the recall that was just logged, and queue the rest; the caller saves the transfer's state."""
    remove_tag(tx, record, recall.by)
    keys = _destroy_keys(tx, record.id)
    sharers = tx.sharers(record.id)
    sizes = tx.segment_sizes(tx.segments_of(record.id))
    unneeded = tx.unpin_transfer(record.id)
    gone = ReceiptSegments(count=len(unneeded), bytes=sum(sizes[segment] for segment in unneeded))
    kept = ReceiptSegments(count=len(sizes) - gone.count, bytes=sum(sizes.values()) - gone.bytes)
    withdrawal = Withdrawal(
        deleted=gone,
        deletion=Deletion(
            recall=recall.digest,
            keys=keys,
            kept=kept,
            kept_for=max(sharers, 1) if kept.count else 0,
            consumers=tx.readers(record.id),
        ),
    )
    tx.put_document(record.id, documents.RECALL, envelope)
    tx.put_document(record.id, documents.WITHDRAWAL, withdrawal.encode())
    tx.put_document(record.id, documents.WITHDRAWN_SEGMENTS, b"".join(segment.binary for segment in unneeded))
    tx.queue_job("withdraw", record.id)


def remove_tag(tx: Transaction, record: TransferRecord, by: SpiffeId) -> None:
    """Take the tag from the artifact, if it points to this transfer, and log that."""
    artifact = tx.artifact(record.repository, record.tag)
    if artifact is None or artifact.transfer != record.id:
        return
    tx.remove_artifact(record.repository, record.tag)
    tx.append(
        EntryType.ARTIFACT_DELETED,
        {"repository": record.repository, "tag": record.tag, "artifact": artifact.digest, "transfer": record.id, "by": by},
    )


def refuse_unknown(tx: Transaction, services: Services, recall: Recall, envelope: bytes) -> None:
    """Remember the recall of a transfer that never came here, sign that nothing of it is here, and queue the answer."""
    nothing = ReceiptSegments(count=0, bytes=0)
    deletion = Deletion(recall=recall.digest, keys=0, kept=nothing, kept_for=0, consumers=0)
    receipt, index = _sign(tx, services, recall, Withdrawal(deleted=nothing, deletion=deletion))
    kept = {"recall": envelope, "receipt": receipt, "index": str(index).encode("ascii")}
    for what, body in kept.items():
        tx.put_site_document(documents.recalled_unknown_name(recall.transfer, what), body)
    tx.queue_job("tell-deleted", recall.transfer)


class Withdraw:
    """Handles `withdraw` and `tell-deleted` jobs; the key is the transfer id."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self, job: JobRecord) -> None:
        """Do steps (2) and (3)."""
        transfer = TransferId(job.key)
        services = self._services
        packed = await services.catalog.read(lambda tx: tx.document(transfer, documents.WITHDRAWN_SEGMENTS))
        if packed is None:
            return
        await services.remove_unneeded(_unpack(packed))
        await services.catalog.write(lambda tx: self._finish(tx, transfer))

    def _finish(self, tx: Transaction, transfer: TransferId) -> None:
        record = tx.transfer(transfer)
        if record is None or tx.document(transfer, documents.WITHDRAWN_SEGMENTS) is None:
            return
        recall = read_recall(documents.need(tx, transfer, documents.RECALL))
        body = documents.need(tx, transfer, documents.WITHDRAWAL)
        receipt, index = _sign(tx, self._services, recall, parse_model(Withdrawal, body, bytes_max=STATEMENT_BYTES_MAX))
        here = self._services.site
        tx.put_document(transfer, documents.receipt_name(ReceiptKind.DELETED, here), receipt)
        tx.put_document(transfer, documents.receipt_index_name(ReceiptKind.DELETED, here), str(index).encode("ascii"))
        tx.delete_document(transfer, documents.WITHDRAWN_SEGMENTS)
        tx.save_transfer(record)  # who waits for the withdrawal sees the transfer change
        if record.role == "destination":
            tx.queue_job("tell-deleted", transfer)

    async def tell(self, job: JobRecord) -> None:
        """Send the origin the `deleted` receipt; before it the recall, if it was this site's own."""
        transfer = TransferId(job.key)
        services = self._services
        origin, receipt, index, own = await services.catalog.read(lambda tx: self._answer(tx, transfer))
        line = await services.courier.line(transfer, origin, job)
        if own is not None:
            await line.message(await recall_message(services, *own))
        proof = await services.log.prove(index, ("transfer", "receipt"))
        message = ReceiptMessage(number=_DELETED_NUMBER, receipt=documents.envelope_json(receipt), proof=proof)
        await line.message(SiteMessage(body=message))
        await services.catalog.write(lambda tx: _told(tx, transfer, origin))

    def _answer(self, tx: Transaction, transfer: TransferId) -> tuple[SiteName, bytes, int, tuple[bytes, int] | None]:
        """Return who is told, the receipt, the index of its entry, and our own recall with the index of its."""
        record = tx.transfer(transfer)
        if record is None:
            kept, receipt, index = (_need_of_unknown(tx, transfer, what) for what in ("recall", "receipt", "index"))
            return read_recall(kept).site, receipt, int(index), None
        here = self._services.site
        receipt = documents.need(tx, transfer, documents.receipt_name(ReceiptKind.DELETED, here))
        index = documents.need(tx, transfer, documents.receipt_index_name(ReceiptKind.DELETED, here))
        recall = tx.document(transfer, documents.recall_to_name(record.origin))
        own = None
        if recall is not None:
            own = recall, int(documents.need(tx, transfer, documents.recall_index_name(record.origin)))
        return record.origin, receipt, int(index), own


def _destroy_keys(tx: Transaction, transfer: TransferId) -> int:
    """Destroy the artifact key, every wrap of it and the rows of an unfinished push; return how many keys that were."""
    wraps = tx.documents(transfer, "release/")
    for name in wraps:
        tx.delete_document(transfer, name)
    held = tx.artifact_key(transfer) is not None
    tx.delete_artifact_key(transfer)
    tx.forget_rows(transfer)
    return len(wraps) + held


def _sign(tx: Transaction, services: Services, recall: Recall, withdrawal: Withdrawal) -> tuple[bytes, int]:
    """Sign and log the `deleted` receipt; return its envelope and the index of its log entry."""
    receipt = Receipt.model_validate(
        {
            "kind": ReceiptKind.DELETED,
            "site": services.site,
            "transfer": recall.transfer,
            "waybill": recall.waybill,
            "packing": recall.packing,
            "artifact": recall.artifact,
            "segments": withdrawal.deleted,
            "deletion": withdrawal.deletion,
            "at": format_time(tx.now),
        }
    )
    fields = {"transfer": recall.transfer, "receipt": receipt.digest, "artifact": recall.artifact}
    index = tx.append(EntryType.RECEIPT_DELETED, fields)
    return receipt.sign(services.keyring.signing).encode(), index


def _told(tx: Transaction, transfer: TransferId, origin: SiteName) -> None:
    record = tx.transfer(transfer)
    name = documents.recall_told_name(origin)
    if record is not None and tx.document(transfer, name) is None:
        tx.put_document(transfer, name, format_time(tx.now).encode("ascii"))
        tx.save_transfer(record)


def _need_of_unknown(tx: Transaction, transfer: TransferId, what: str) -> bytes:
    body = tx.site_document(documents.recalled_unknown_name(transfer, what))
    if body is None:
        raise InternalError("E-INTERNAL", f"no {what} about the recall of {transfer} is kept")
    return body


def _unpack(packed: bytes) -> list[SegmentId]:
    return [
        SegmentId.from_binary(packed[start : start + _SEGMENT_ID_BYTES]) for start in range(0, len(packed), _SEGMENT_ID_BYTES)
    ]
