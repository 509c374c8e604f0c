"""Ends what ran out of time: transfers never committed, deliveries never made, ciphertext whose key never came.

An unfinished transfer has the hours that the site gives it, a committed one until its waybill ends. What only it needed is
removed, and a destination that holds ciphertext is told.
"""

from dataclasses import replace

from carnet.entries import EntryType
from carnet.identifiers import SegmentId
from carnet.transfer import DELIVERY, MACHINES, may, step
from gateway.ports import Transaction
from gateway.records import TransferRecord
from gateway.services import Services

_A_ROUND = 100


class Expire:
    """One round is `run`; maintenance calls it at intervals."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self) -> None:
        """Expire up to a hundred transfers; the next round takes the rest."""

        def change(tx: Transaction) -> list[SegmentId]:
            orphans: list[SegmentId] = []
            for record in tx.overdue(limit=_A_ROUND):
                _expire_deliveries(tx, record)
                machine = MACHINES[record.role]
                if not may(machine, record.state, "expire"):
                    continue
                tx.save_transfer(replace(record, state=step(machine, record.state, "expire"), state_at=tx.now))
                tx.forget_rows(record.id)
                tx.append(EntryType.TRANSFER_ENDED, {"transfer": record.id, "state": "expired", "why": "ran out of time"})
                orphans += tx.unpin_transfer(record.id)
            return orphans

        services = self._services
        if await services.catalog.read(lambda tx: bool(tx.overdue(limit=1))):
            await services.remove_unneeded(await services.catalog.write(change))


def _expire_deliveries(tx: Transaction, record: TransferRecord) -> None:
    for delivery in tx.deliveries(record.id):
        if not may(DELIVERY, delivery.state, "expire"):
            continue
        tx.save_delivery(replace(delivery, state=step(DELIVERY, delivery.state, "expire"), state_at=tx.now))
        tx.append(
            EntryType.TRANSFER_ENDED,
            {"transfer": record.id, "destination": delivery.destination, "state": "expired", "why": "its waybill ended"},
        )
        if delivery.state != "offer-hold":
            tx.queue_job("send-cancel", f"{record.id}/{delivery.destination}")
