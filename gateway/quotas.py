"""Quotas: what one identity may have open, bring in and keep here at once; each refusal names the setting that bounds it.

Rules:      1. a quota is asked inside the transaction that would exceed it  2. what ends (commit, cancel, expiry) counts no more
Spec:       docs/operations.md section "Limits"
"""

from collections.abc import Mapping

from carnet.errors import CapacityError
from carnet.identifiers import SegmentId, SpiffeId, TransferId
from gateway.ports import Transaction
from gateway.records import TransferRecord
from gateway.services import Bounds


def require_open(tx: Transaction, bounds: Bounds, identity: SpiffeId) -> None:
    """Return if `identity` may begin one more transfer.

    Raises:
        CapacityError: E-LIMIT open_transfers_max for an agent, peer_open_transfers_max for another site.
    """
    is_peer = identity.kind == "gateway"
    limit = bounds.peer_open_transfers_max if is_peer else bounds.open_transfers_max
    states = ("receiving",) if is_peer else ("declared", "receiving")
    unfinished = tx.transfers(sender=identity, states=states, limit=limit)
    if len(unfinished) >= limit:
        raise CapacityError(
            "E-LIMIT",
            f"{identity.name} has {len(unfinished)} unfinished transfers, at most {limit} are allowed",
            limit="peer_open_transfers_max" if is_peer else "open_transfers_max",
            remedy="finish or cancel some: `carnet transfer list --state receiving`",
        )


def require_bytes(tx: Transaction, bounds: Bounds, record: TransferRecord, more: int) -> None:
    """Return if the transfer, and its sender with all that it has unfinished, may bring in `more` bytes.

    Raises:
        CapacityError: E-LIMIT uncommitted_bytes_max for the transfer, unfinished_bytes_max for the sender.
    """
    if record.bytes_received + more > bounds.uncommitted_bytes_max:
        raise CapacityError("E-LIMIT", f"transfer {record.id} would exceed its bytes", limit="uncommitted_bytes_max")
    if tx.unfinished_bytes(record.sender) + more > bounds.unfinished_bytes_max:
        raise CapacityError(
            "E-LIMIT",
            f"the unfinished transfers of {record.sender.name} would exceed their bytes",
            limit="unfinished_bytes_max",
            remedy="finish or cancel some: `carnet transfer list --state receiving`",
        )


def require_pins(bounds: Bounds, transfer: TransferId, pinned: Mapping[SegmentId, int]) -> None:
    """Return if an unfinished transfer may keep the segments in `pinned` here.

    Raises:
        CapacityError: E-LIMIT pinned_bytes_max.
    """
    size = sum(pinned.values())
    if size > bounds.pinned_bytes_max:
        raise CapacityError(
            "E-LIMIT", f"transfer {transfer} would keep {size} bytes of other transfers here", limit="pinned_bytes_max"
        )
