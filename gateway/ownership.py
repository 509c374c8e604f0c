"""Whose transfer it is: to anybody else it does not exist, and both answers look the same."""

from carnet.errors import NotFound
from carnet.identifiers import SpiffeId, TransferId
from gateway.ports import Transaction
from gateway.records import TransferRecord


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
