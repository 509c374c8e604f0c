"""Tells the origin what this destination decided: its `delivered` receipt, or the decision that kept it from delivering.

Each message carries the proof that what it says is in this site's log, so it waits for the checkpoint. Jobs repeat until the
origin has taken it; taking it twice changes nothing there.
"""

from carnet.decision import Gate
from carnet.errors import InternalError
from carnet.identifiers import SiteName, TransferId
from carnet.messages import DecisionMessage, ReceiptMessage, SiteMessage
from carnet.receipt import ReceiptKind
from gateway import documents
from gateway.deciding import signed_step
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services

_RECEIPT_NUMBER = 0
_DECISION_NUMBER = 1
_NOT_DELIVERED = frozenset({"held", "quarantined", "denied"})


class Tell:
    """Handles `tell-delivered` and `tell-decision` jobs; the key is the transfer id."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def delivered(self, job: JobRecord) -> None:
        """Send the `delivered` receipt."""
        transfer = TransferId(job.key)
        services = self._services

        def read(tx: Transaction) -> tuple[bytes, int, SiteName]:
            name = documents.receipt_name(ReceiptKind.DELIVERED, services.site)
            index = documents.need(tx, transfer, documents.receipt_index_name(ReceiptKind.DELIVERED, services.site))
            return documents.need(tx, transfer, name), int(index), _origin(tx, transfer)

        if await services.catalog.read(lambda tx: _state(tx, transfer)) in {*_NOT_DELIVERED, "inspecting"}:
            return  # put away meanwhile, or decided about again; that has a message of its own
        receipt, index, origin = await services.catalog.read(read)
        proof = await services.log.prove(index, ("transfer", "receipt"))
        message = ReceiptMessage(number=_RECEIPT_NUMBER, receipt=documents.envelope_json(receipt), proof=proof)
        await self._send(job, origin, SiteMessage(body=message))

    async def decision(self, job: JobRecord) -> None:
        """Send the decision at `receipt` that was not `allow`, or that at `recheck` which put away what was delivered."""
        transfer = TransferId(job.key)
        services = self._services
        origin, state = await services.catalog.read(lambda tx: (_origin(tx, transfer), _state(tx, transfer)))
        if state not in _NOT_DELIVERED:
            return  # decided otherwise meanwhile; that has a message of its own
        gate = await services.catalog.read(lambda tx: _newest(tx, transfer, services.site))
        step = await signed_step(services, transfer, gate, services.site)
        await self._send(job, origin, SiteMessage(body=DecisionMessage(number=_DECISION_NUMBER, step=step)))

    async def _send(self, job: JobRecord, origin: SiteName, message: SiteMessage) -> None:
        line = await self._services.courier.line(TransferId(job.key), origin, job)
        await line.message(message)


def _newest(tx: Transaction, transfer: TransferId, site: SiteName) -> Gate:
    """Return the gate of the decision that the transfer's state is of: what was put away may have been decided again since."""

    def index(gate: Gate) -> int:
        body = tx.document(transfer, documents.decision_index_name(gate, site))
        return -1 if body is None else int(body)

    return max((Gate.RECEIPT, Gate.RECHECK), key=index)


def _origin(tx: Transaction, transfer: TransferId) -> SiteName:
    record = tx.transfer(transfer)
    if record is None:
        raise InternalError("E-INTERNAL", f"transfer {transfer} is gone")
    return record.origin


def _state(tx: Transaction, transfer: TransferId) -> str | None:
    record = tx.transfer(transfer)
    return None if record is None else record.state
