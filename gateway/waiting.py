"""Says at a transfer why a job about it cannot go on yet, so that who looks at the transfer need not look at the jobs.

The jobs that write a reason of their own (forwarding, releasing) are not among these.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from carnet.errors import CarnetError
from carnet.identifiers import TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import ReasonView
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services

RULE = "waiting"
"""The rule that the reason of a transfer names while one of its jobs waits."""
_BEFORE_A_DECISION = frozenset({"received", "inspecting", "stored", "released"})


def telling(services: Services, handler: Callable[[JobRecord], Awaitable[None]]) -> Callable[[JobRecord], Awaitable[None]]:
    """Return a handler that does the same and, when it fails, leaves the reason with the transfer before it raises."""

    async def run(job: JobRecord) -> None:
        try:
            await handler(job)
        except CarnetError as error:
            text, remedy = str(error)[:TEXT_CHARS_MAX], error.remedy
            await services.catalog.write(lambda tx: _note(tx, TransferId(job.key.partition("/")[0]), text, remedy))
            raise

    return run


def _note(tx: Transaction, transfer: TransferId, text: str, remedy: str) -> None:
    record = tx.transfer(transfer)
    if record is None or record.state not in _BEFORE_A_DECISION:
        return
    reason = ReasonView(rule=RULE, outcome="hold", text=text, remedy=remedy).model_dump(mode="json")
    if record.reasons != (reason,):
        tx.save_transfer(replace(record, reasons=(reason,)))
    for delivery in tx.deliveries(transfer) if record.role == "origin" else ():
        if delivery.state == "waiting" and delivery.error != text:
            tx.save_delivery(replace(delivery, error=text))
