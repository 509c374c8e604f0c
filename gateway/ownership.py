"""Whose transfer it is: to anybody else it does not exist, and both answers look the same."""

from carnet.errors import NotFound
from carnet.identifiers import SpiffeId, TransferId
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, TransferRecord


def own_transfer(tx: Transaction, identity: SpiffeId, transfer: TransferId) -> TransferRecord:
    """Return the transfer if `identity` sends it; raise `NotFound` E-TRANSFER-UNKNOWN, be it another's or nobody's."""
    record = tx.transfer(transfer)
    if record is None or record.sender != identity:
        raise NotFound("E-TRANSFER-UNKNOWN", f"no transfer {transfer} of yours")
    return record


def transfer_of_peer(tx: Transaction, peer: SpiffeId, transfer: TransferId) -> TransferRecord:
    """Return a transfer that `peer` forwards to this site; raise `NotFound` E-TRANSFER-UNKNOWN if it has none of this id."""
    record = tx.transfer(transfer)
    if record is None or record.role != "destination" or record.sender != peer:
        raise NotFound("E-TRANSFER-UNKNOWN", f"no transfer {transfer} of yours")
    return record


def delivery_to(tx: Transaction, peer: SpiffeId, transfer: TransferId) -> tuple[TransferRecord, DeliveryRecord]:
    """Return the transfer and its delivery to this peer; raise `NotFound` E-TRANSFER-UNKNOWN if this site sends it none."""
    record = tx.transfer(transfer)
    deliveries = tx.deliveries(transfer) if record is not None and record.role == "origin" else []
    for delivery in deliveries:
        if record is not None and peer.kind == "gateway" and delivery.destination == peer.site:
            return record, delivery
    raise NotFound("E-TRANSFER-UNKNOWN", f"no transfer {transfer} to you")
