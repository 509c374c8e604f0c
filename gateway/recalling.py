"""Recalls: takes back, for who may, what was committed; signs the recall, logs it, and tells each destination until it answers.

At the origin a recall stops offers, releases and pulls at once and withdraws the transfer here (`withdrawing`); each destination
that a byte may have reached is told by a job that never gives up. A destination recalls for itself alone, and tells the origin.
The same signed recall ends what was begun and then denied, cancelled or ran out of time (`recall_signing`).
"""

from dataclasses import replace

from carnet.decision import Outcome
from carnet.errors import CarnetError, Conflict, NotAuthorised, NotFound
from carnet.identifiers import Digest, Repository, SiteName, SpiffeId, Tag, TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import RecallView
from carnet.recall import RecallCause
from carnet.receipt import Receipt, ReceiptKind
from carnet.timestamps import format_time
from carnet.transfer import DELIVERY, MACHINES, may, step
from carnet.trust import HOME_LANE
from gateway import documents
from gateway.forward import parse_delivery_key
from gateway.grants import ACTIONS
from gateway.ledger import credit
from gateway.ports import Transaction
from gateway.recall_signing import announce, has_begun, read_recall, recall_message, recall_reason, sign_recall
from gateway.records import JobRecord, TransferRecord
from gateway.services import Services
from gateway.withdrawing import withdraw

_FOUND_MAX = 100
_ASK_AGAIN_S = 60.0
"""How long a destination that took a recall has for its receipt before it is asked again."""


class Recalls:
    """Every call names the authenticated identity."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def find(
        self, identity: SpiffeId, *, digest: Digest | None = None, name: tuple[Repository, Tag] | None = None
    ) -> list[TransferId]:
        """Return the transfers here that a recall by this digest or name means, newest first; a name means its newest artifact.

        Asked again after the recall, it returns what was recalled.

        Raises:
            NotFound: E-ARTIFACT-UNKNOWN if there is none. NotAuthorised: E-NOT-ALLOWED if this identity may recall none of them.
        """

        def read(tx: Transaction) -> list[TransferId]:
            artifact = digest if digest is not None else self._artifact_named(tx, identity, name)
            found = [] if artifact is None else tx.transfers_of_artifact(artifact, limit=_FOUND_MAX)
            seen = [record for record in found if _is_meant(record) and self._sees(tx, identity, record)]
            allowed = [record for record in seen if self._may(tx, identity, record)]
            shown = digest if name is None else f"{name[0]}:{name[1]}"
            if not seen:
                if name is not None:
                    self._services.access.refuse_ended(tx.identity(identity), "delete", name[0], HOME_LANE)
                raise NotFound("E-ARTIFACT-UNKNOWN", f"nothing of {shown} here that could be recalled")
            if not allowed:
                raise self._refusal(tx, identity, seen[0], f"{shown}")
            waiting = [record.id for record in allowed if record.state != "recalled"]
            return waiting or [record.id for record in allowed]

        return await self._services.catalog.read(read)

    def _artifact_named(self, tx: Transaction, identity: SpiffeId, name: tuple[Repository, Tag] | None) -> Digest | None:
        """Return the newest artifact of this name, recalled or not, of those that the identity may see."""
        if name is None:
            return None
        return next(
            (
                record.digest
                for record in tx.transfers_named(*name, limit=_FOUND_MAX)
                if _is_meant(record) and self._sees(tx, identity, record)
            ),
            None,
        )

    async def recall(self, identity: SpiffeId, transfer: TransferId, reason: str) -> None:
        """Withdraw the transfer here, and tell who must do the same; returns when that is logged and durable here.

        Idempotent: what is recalled stays recalled for the first reason.

        Raises:
            NotFound: E-TRANSFER-UNKNOWN. NotAuthorised: E-NOT-ALLOWED for who neither sent it nor may delete it.
            Conflict: E-STATE for what was never committed, or has ended by itself.
        """
        services = self._services

        def change(tx: Transaction) -> int | None:
            record = tx.transfer(transfer)
            if record is None or not self._sees(tx, identity, record):
                raise NotFound("E-TRANSFER-UNKNOWN", f"no transfer {transfer} that you may see")
            if not self._may(tx, identity, record):
                raise self._refusal(tx, identity, record, f"{record.repository}:{record.tag}")
            if record.state == "recalled":
                return None
            if not may(MACHINES[record.role], record.state, "recall"):
                raise Conflict(
                    "E-STATE",
                    f"transfer {transfer} is {record.state} and cannot be recalled",
                    remedy="what was not committed is cancelled: `carnet transfer cancel`",
                )
            return recall_here(tx, services, record, cause=RecallCause.RECALLED, reason=reason, by=identity)

        index = await services.catalog.write(change)
        if index is not None:
            await services.log.checkpointed(index)

    async def send(self, job: JobRecord) -> None:
        """Handle a `send-recall` job, for `<transfer>/<destination>`: tell it, each minute again, until its receipt is here."""
        transfer, destination = parse_delivery_key(job.key)
        services = self._services

        def read(tx: Transaction) -> tuple[bytes, int] | None:
            if tx.document(transfer, documents.recall_acknowledged_name(destination)) is not None:
                return None
            index = documents.need(tx, transfer, documents.recall_index_name(destination))
            return documents.need(tx, transfer, documents.recall_to_name(destination)), int(index)

        found = await services.catalog.read(read)
        if found is None:
            return
        try:
            line = await services.courier.line(transfer, destination, job)
            await line.message(await recall_message(services, *found))
        except CarnetError as error:
            problem = f"its recall waits: {error}"
            await services.catalog.write(lambda tx: _note(tx, transfer, destination, problem))
            raise
        await services.catalog.write(lambda tx: _told(tx, transfer, destination, job))

    def _may(self, tx: Transaction, identity: SpiffeId, record: TransferRecord) -> bool:
        if record.role == "origin" and record.sender == identity:
            return True
        return may_delete(tx, self._services, identity, record)

    def _refusal(self, tx: Transaction, identity: SpiffeId, record: TransferRecord, shown: str) -> NotAuthorised:
        """Return the error for who sees a transfer and may not recall it; raise the one for a right that ended."""
        self._services.access.refuse_ended(tx.identity(identity), "delete", record.repository, HOME_LANE)
        return NotAuthorised("E-NOT-ALLOWED", f"{identity.name} may not recall {shown}: neither its sender nor may delete it")

    def _sees(self, tx: Transaction, identity: SpiffeId, record: TransferRecord) -> bool:
        who, access = tx.identity(identity), self._services.access
        return record.sender == identity or any(
            access.allows(who, action, record.repository, lane) for action in ACTIONS for lane in (record.lane, HOME_LANE)
        )


def may_delete(tx: Transaction, services: Services, identity: SpiffeId, record: TransferRecord) -> bool:
    """Tell whether the identity may delete in the transfer's repository, here or on its lane."""
    who = tx.identity(identity)
    return any(services.access.allows(who, "delete", record.repository, lane) for lane in (record.lane, HOME_LANE))


def _is_meant(record: TransferRecord) -> bool:
    """Tell whether the transfer can be recalled, or was."""
    return record.state == "recalled" or may(MACHINES[record.role], record.state, "recall")


def recall_here(
    tx: Transaction, services: Services, record: TransferRecord, *, cause: RecallCause, reason: str, by: SpiffeId
) -> int:
    """Log the recall, withdraw the transfer here, stop its deliveries and queue who is told; return the index of the entry."""
    deliveries = [one for one in tx.deliveries(record.id) if may(DELIVERY, one.state, "recall")]
    tell = [one.destination for one in deliveries if has_begun(services, one)]
    if record.role == "destination":
        tell = [record.origin]
    recall, envelope, index = sign_recall(tx, services, record, cause=cause, reason=reason, by=by, tell=tell)
    for delivery in deliveries:
        state = step(DELIVERY, delivery.state, "recall")
        credit(tx, record.id, delivery.destination, "recalled before its key left")
        tx.save_delivery(
            replace(delivery, state=state, state_at=tx.now, outcome=Outcome.DENY, reasons=(recall_reason(recall),), error=None)
        )
    withdraw(tx, record, recall, envelope)
    state = step(MACHINES[record.role], record.state, "recall")
    tx.save_transfer(replace(record, state=state, state_at=tx.now, outcome=Outcome.DENY, reasons=(recall_reason(recall),)))
    if record.role == "origin":
        for destination in tell:
            tx.queue_job("send-recall", f"{record.id}/{destination}")
    return index


def recall_delivery(
    tx: Transaction, services: Services, record: TransferRecord, destination: SiteName, *, cause: RecallCause, reason: str
) -> None:
    """At the origin: take back what arrived at one destination, by the site's own word; other deliveries go on."""
    for delivery in tx.deliveries(record.id):
        if delivery.destination == destination:
            announce(tx, services, record, cause=cause, reason=reason, deliveries=[delivery])
            recall = read_recall(documents.need(tx, record.id, documents.recall_to_name(destination)))
            state, reasons = step(DELIVERY, delivery.state, "recall"), (recall_reason(recall),)
            tx.save_delivery(replace(delivery, state=state, state_at=tx.now, outcome=Outcome.DENY, reasons=reasons, error=None))


def _told(tx: Transaction, transfer: TransferId, destination: SiteName, job: JobRecord) -> None:
    name = documents.recall_told_name(destination)
    if tx.document(transfer, name) is None:
        tx.put_document(transfer, name, format_time(tx.now).encode("ascii"))
    _note(tx, transfer, destination, None)
    if tx.document(transfer, documents.recall_acknowledged_name(destination)) is None:
        tx.queue_job(job.kind, job.key, delay_s=_ASK_AGAIN_S)


def _note(tx: Transaction, transfer: TransferId, destination: SiteName, problem: str | None) -> None:
    for delivery in tx.deliveries(transfer):
        if delivery.destination == destination:
            tx.save_delivery(replace(delivery, error=None if problem is None else problem[:TEXT_CHARS_MAX]))


def delivery_recall(tx: Transaction, transfer: TransferId, destination: SiteName) -> RecallView | None:
    """Return the withdrawal of one delivery as the origin knows it, whoever of the two sites asked for it; None if none did."""
    body = tx.document(transfer, documents.recall_to_name(destination))
    body = body or tx.document(transfer, documents.recall_by_name(destination))
    if body is None:
        return None
    return _view(
        body,
        told=tx.document(transfer, documents.recall_told_name(destination)),
        acknowledged=tx.document(transfer, documents.recall_acknowledged_name(destination)),
        receipt=tx.document(transfer, documents.receipt_name(ReceiptKind.DELETED, destination)),
    )


def own_recall(tx: Transaction, services: Services, record: TransferRecord) -> RecallView | None:
    """Return the withdrawal of the transfer at this site, or None; here `told` says when the origin took our own recall."""
    body = tx.document(record.id, documents.RECALL)
    if body is None:
        return None
    receipt = tx.document(record.id, documents.receipt_name(ReceiptKind.DELETED, services.site))
    acknowledged = None if receipt is None else Receipt.read_unverified(documents.read_envelope(receipt)).at.encode("ascii")
    told = tx.document(record.id, documents.recall_told_name(record.origin))
    return _view(body, told=told, acknowledged=acknowledged, receipt=receipt)


def _view(body: bytes, *, told: bytes | None, acknowledged: bytes | None, receipt: bytes | None) -> RecallView:
    recall = read_recall(body)
    return RecallView(
        statement=documents.envelope_json(body),
        site=recall.site,
        cause=recall.cause.value,
        reason=recall.reason,
        by=recall.by,
        at=recall.at,
        told=None if told is None else told.decode("ascii"),
        acknowledged=None if acknowledged is None else acknowledged.decode("ascii"),
        receipt=None if receipt is None else documents.envelope_json(receipt),
    )
