"""Ends what ran out of time: transfers never committed, deliveries never made, holds that nobody satisfied.

An unfinished transfer has the hours that the site gives it, a committed one until its waybill ends, a hold the hours that the
site gives to holds. What only it needed is removed, and a destination that may hold ciphertext is sent a recall. The hours that a
rule gives its hold end it by a decision (`hold_rule`), which is asked for here.
"""

from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias

from carnet.decision import Outcome
from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.identifiers import SegmentId
from carnet.messages import ReasonView
from carnet.recall import RecallCause
from carnet.transfer import DELIVERY, MACHINES, is_ended, may, step
from gateway.approving import decide_again, is_due, queue_review
from gateway.forward import parse_delivery_key
from gateway.hold_rule import HOLDS
from gateway.ledger import credit
from gateway.passages.ending import end_overdue
from gateway.ports import Transaction
from gateway.recall_signing import announce
from gateway.records import DeliveryRecord, JobRecord, TransferRecord
from gateway.services import Services

Rows: TypeAlias = tuple[dict[str, JsonValue], ...]

_A_ROUND = 100


class Expire:
    """One round is `run`; maintenance calls it at intervals."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self) -> None:
        """Expire up to a hundred transfers; the next round takes the rest.

        Raises:
            Held: E-CLOCK: a clock that cannot be right ends nothing.
        """
        self._services.trust.require_clock()

        def change(tx: Transaction) -> list[SegmentId]:
            orphans: list[SegmentId] = []
            for record in tx.overdue(limit=_A_ROUND):
                for delivery in tx.deliveries(record.id):
                    _expire_delivery(tx, self._services, record, delivery, "its waybill ended", delivery.reasons)
                orphans += _expire_transfer(tx, record, "ran out of time")
            return orphans

        services = self._services
        await end_overdue(services)
        if await services.catalog.read(lambda tx: bool(tx.overdue(limit=1))):
            await services.remove_unneeded(await services.catalog.write(change))

    async def review(self, job: JobRecord) -> None:
        """Handle a `review` job, for `<transfer>/<destination>`: a delivery has waited for persons for a while.

        If it waited as long as the site lets any wait, it expires. If the request that was open has ended, or the hours of a rule
        are over, it is decided again, which makes the next request or a denial.

        Raises:
            Held: E-CLOCK: a clock that cannot be right ends nothing.
        """
        self._services.trust.require_clock()
        transfer, destination = parse_delivery_key(job.key)
        services = self._services

        def change(tx: Transaction) -> list[SegmentId]:
            record = tx.transfer(transfer)
            for delivery in tx.deliveries(transfer):
                if record is not None and delivery.destination == destination:
                    return self._look(tx, record, delivery)
            return []

        await services.remove_unneeded(await services.catalog.write(change))

    def _look(self, tx: Transaction, record: TransferRecord, delivery: DeliveryRecord) -> list[SegmentId]:
        services, hours = self._services, self._services.bounds.hold_hours
        now = services.trust.floor.judged(tx.now)
        if delivery.state in HOLDS and now >= delivery.state_at + timedelta(hours=hours):
            why = f"nobody satisfied the hold within {hours} hours"
            remedy = "push again, and have those ready who are asked; the site sets limits.hold_hours"
            reason = ReasonView(rule="hold-expired", outcome=Outcome.HOLD.value, text=why, remedy=remedy)
            _expire_delivery(tx, services, record, delivery, why, (reason.model_dump(mode="json"), *delivery.reasons))
            waits = any(not is_ended(DELIVERY, one.state) for one in tx.deliveries(record.id))
            return [] if waits or record.state != "held" else _expire_transfer(tx, record, why)
        if is_due(tx, services, delivery):
            decide_again(tx, record, delivery)
        queue_review(tx, services, delivery)
        return []


def _expire_transfer(tx: Transaction, record: TransferRecord, why: str) -> list[SegmentId]:
    """End a transfer, if its state may expire; return the segments that nobody needs any more."""
    machine = MACHINES[record.role]
    if not may(machine, record.state, "expire"):
        return []
    tx.save_transfer(replace(record, state=step(machine, record.state, "expire"), state_at=tx.now))
    tx.forget_rows(record.id)
    tx.append(EntryType.TRANSFER_ENDED, {"transfer": record.id, "state": "expired", "why": why})
    return tx.unpin_transfer(record.id)


def _expire_delivery(
    tx: Transaction, services: Services, record: TransferRecord, delivery: DeliveryRecord, why: str, reasons: Rows
) -> None:
    if not may(DELIVERY, delivery.state, "expire"):
        return
    state = step(DELIVERY, delivery.state, "expire")
    tx.save_delivery(replace(delivery, state=state, state_at=tx.now, reasons=reasons))
    credit(tx, delivery.transfer, delivery.destination, "expired")
    tx.append(
        EntryType.TRANSFER_ENDED,
        {"transfer": delivery.transfer, "destination": delivery.destination, "state": "expired", "why": why},
    )
    announce(tx, services, record, cause=RecallCause.EXPIRED, reason=why, deliveries=[delivery])
