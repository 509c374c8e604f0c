"""Signed recalls of this site: made, logged and kept in one transaction; and what a recall means to who reads it.

A recall is for what was committed. Whoever ends something that may have begun to cross calls `announce`: the destinations that a
byte may have reached are told by `send-recall` jobs, which never give up.
"""

import unicodedata
from collections.abc import Sequence

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.errors import Refused
from carnet.identifiers import SiteName, SpiffeId, TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import ReasonView, RecallMessage, SiteMessage
from carnet.recall import Recall, RecallCause
from carnet.timestamps import format_time
from gateway import documents
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, TransferRecord
from gateway.services import Services

_RECALL_NUMBER = 1
_SAID_OF_CAUSE = {
    RecallCause.RECALLED: "recalled it",
    RecallCause.CANCELLED: "cancelled it",
    RecallCause.DENIED: "denied it",
    RecallCause.EXPIRED: "let it expire",
}


def announce(
    tx: Transaction,
    services: Services,
    record: TransferRecord,
    *,
    cause: RecallCause,
    reason: str,
    deliveries: Sequence[DeliveryRecord],
    by: SpiffeId | None = None,
) -> None:
    """Sign, log and queue the recall to each of these destinations that a byte may have reached; nothing if there is none.

    `by` is who asked for it; without one it is the site itself.
    """
    tell = [delivery.destination for delivery in deliveries if has_begun(services, delivery)]
    if tell:
        sign_recall(tx, services, record, cause=cause, reason=reason, by=by or services.identity, tell=tell)
        for destination in tell:
            tx.queue_job("send-recall", f"{record.id}/{destination}")


def refuse_recalled(tx: Transaction, transfer: TransferId) -> None:
    """Raise `Refused` E-RECALLED for a transfer that was recalled, be it before it came: it does not come back."""
    record = tx.transfer(transfer)
    unknown = record is None and tx.site_document(documents.recalled_unknown_name(transfer, "recall")) is not None
    if unknown or (record is not None and record.state == "recalled"):
        raise Refused("E-RECALLED", f"transfer {transfer} was recalled; it does not come back")


def recall_reason(recall: Recall) -> dict[str, JsonValue]:
    """Return the reason that a recall is, as the catalog keeps reasons."""
    text = f"{recall.site} {_SAID_OF_CAUSE[recall.cause]}: {recall.reason}"[:TEXT_CHARS_MAX]
    view = ReasonView(rule="recall", outcome="deny", text=text, remedy="push another version, or ask who withdrew it")
    return view.model_dump(mode="json")


async def recall_message(services: Services, envelope: bytes, index: int) -> SiteMessage:
    """Return the message with a recall of ours and the proof of its log entry; waits until that is under a checkpoint."""
    proof = await services.log.prove(index, ("transfer", "recall"))
    return SiteMessage(body=RecallMessage(number=_RECALL_NUMBER, recall=documents.envelope_json(envelope), proof=proof))


def read_recall(body: bytes) -> Recall:
    """Return the recall kept as `body`; it was verified when it came, or is ours."""
    return Recall.read_unverified(documents.read_envelope(body))


def sign_recall(
    tx: Transaction,
    services: Services,
    record: TransferRecord,
    *,
    cause: RecallCause,
    reason: str,
    by: SpiffeId,
    tell: Sequence[SiteName],
) -> tuple[Recall, bytes, int]:
    """Sign and log a recall of a committed transfer, keep it for each site that is told; return it with its log entry's index."""
    packing = documents.read_packing(tx, record.id)
    recall = Recall.model_validate(
        {
            "site": services.site,
            "transfer": record.id,
            "waybill": packing.waybill,
            "packing": packing.digest,
            "artifact": record.digest,
            "cause": cause,
            "reason": _one_line(reason) or f"{cause.value}, no reason was given",
            "by": by,
            "tell": tuple(sorted(tell)),
            "at": format_time(tx.now),
        }
    )
    envelope = recall.sign(services.keyring.signing).encode()
    index = tx.append(
        EntryType.TRANSFER_RECALLED,
        {
            "transfer": record.id,
            "recall": recall.digest,
            "artifact": recall.artifact,
            "cause": recall.cause.value,
            "reason": recall.reason,
            "by": recall.by,
            "tell": list(recall.tell),
        },
    )
    for site in tell:
        tx.put_document(record.id, documents.recall_to_name(site), envelope)
        tx.put_document(record.id, documents.recall_index_name(site), str(index).encode("ascii"))
    return recall, envelope, index


def has_begun(services: Services, delivery: DeliveryRecord) -> bool:
    """Tell whether a byte may have left for this destination: the first attempt is counted before one does."""
    return delivery.attempts > 0 and delivery.destination != services.site


def _one_line(text: str) -> str:
    shown = "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)
    return shown.strip()[:TEXT_CHARS_MAX]
