"""Hands an agent what it sealed itself: enough to open the index of a base, or of its own committed transfer."""

from carnet.encoding import encode_base64
from carnet.identifiers import SpiffeId
from carnet.messages import SealedArtifact
from gateway import documents
from gateway.ports import Transaction
from gateway.records import TransferRecord


def sealed_artifact(tx: Transaction, record: TransferRecord, sealer: SpiffeId) -> SealedArtifact | None:
    """Return the documents of a committed transfer with the release to `sealer`, or None if some are gone (deleted)."""
    release = tx.document(record.id, documents.release_name(sealer))
    waybill = tx.document(record.id, documents.WAYBILL)
    packing = tx.document(record.id, documents.PACKING_LIST)
    segments = tx.document(record.id, documents.SEGMENT_LIST)
    if release is None or waybill is None or packing is None or segments is None:
        return None
    return SealedArtifact(
        waybill=documents.envelope_json(waybill),
        packing_list=documents.envelope_json(packing),
        segment_list=encode_base64(segments),
        release=documents.read_release(release),
    )
