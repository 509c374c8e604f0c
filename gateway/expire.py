"""Ends transfers that ran out of time before they were committed, and gives back what only they needed."""

from dataclasses import replace

from carnet.entries import EntryType
from carnet.identifiers import SegmentId
from carnet.transfer import MACHINES, may, step
from gateway.ports import Transaction
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
