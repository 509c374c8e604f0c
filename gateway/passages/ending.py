"""Ends passages whose time is over: what they hold is deleted, whatever became of them, and that is logged."""

from typing import Final

from carnet.identifiers import SegmentId
from gateway.passages.steps import end_passage
from gateway.ports import Transaction
from gateway.services import Services

_A_ROUND: Final = 100


async def end_overdue(services: Services) -> None:
    """End up to a hundred passages at their `delete_by`; the next round takes the rest."""

    def change(tx: Transaction) -> list[SegmentId]:
        left: list[SegmentId] = []
        for record in tx.overdue_passages(limit=_A_ROUND):
            left += end_passage(tx, record, "its delete-by passed")
        return left

    if await services.catalog.read(lambda tx: bool(tx.overdue_passages(limit=1))):
        await services.remove_unneeded(await services.catalog.write(change))
