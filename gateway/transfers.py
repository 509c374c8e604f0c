"""Shows transfers to those who may see them, and lets their senders cancel or retry them.

An agent sees its own transfers; an identity granted `admin` sees all of the site; who may delete in a transfer's repository, and
so may recall it, may look at it. Everything else does not exist for them.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.errors import Conflict, NotFound
from carnet.identifiers import SegmentId, SpiffeId, TransferId
from carnet.messages import DeliveryView, ReasonView, TransferList, TransferView
from carnet.recall import RecallCause
from carnet.receipt import ReceiptKind
from carnet.timestamps import format_time
from carnet.transfer import DELIVERY, MACHINES, may, step
from gateway import documents
from gateway.approving import approvals_view
from gateway.changes import Changes
from gateway.ledger import credit
from gateway.ports import Transaction
from gateway.recall_signing import announce
from gateway.recalling import delivery_recall, may_delete, own_recall
from gateway.records import DeliveryRecord, IdentityRecord, TransferRecord
from gateway.services import Services


class Transfers:
    """Every call names the authenticated identity."""

    def __init__(self, services: Services, changes: Changes) -> None:
        """Use the site's services; `changes` wakes long polls."""
        self._services = services
        self._changes = changes

    async def show(self, identity: SpiffeId, transfer: TransferId) -> TransferView:
        """Return one transfer; raise `NotFound` E-TRANSFER-UNKNOWN if there is none that this identity may see."""

        def read(tx: Transaction) -> TransferView:
            record = tx.transfer(transfer)
            if record is None or not may_delete(tx, self._services, identity, record):
                record = self.visible(tx, identity, transfer)
            return self._view(tx, record)

        return await self._services.catalog.read(read)

    async def changed(self, transfer: TransferId, timeout_s: float) -> None:
        """Return at the transfer's next change, or after `timeout_s` seconds."""
        await self._changes.wait(transfer, timeout_s)

    async def list(
        self, identity: SpiffeId, *, states: Sequence[str] = (), limit: int = 100, before: str | None = None
    ) -> TransferList:
        """Return transfers this identity may see, newest first; `before` is the `next` of the page before.

        A page of somebody who sees transfers of others because they may approve them can have fewer than `limit`. Receipts
        are left to `show`: a page of them would be made and sent for one that is read.
        """

        def read(tx: Transaction) -> TransferList:
            known = tx.identity(identity)
            sees_all = self._is_admin(tx, identity)
            approves = self._services.access.acts(known, "approve")
            sender = None if sees_all or approves else identity
            records = tx.transfers(sender=sender, states=states, limit=limit + 1, before=before)
            page = records[:limit]
            cursor = f"{format_time(page[-1].created_at)}|{page[-1].id}" if len(records) > limit else None
            shown = [one for one in page if sees_all or one.sender == identity or self._may_approve(known, one)]
            return TransferList(transfers=tuple(self._view(tx, record, receipts=False) for record in shown), next=cursor)

        return await self._services.catalog.read(read)

    async def cancel(self, identity: SpiffeId, transfer: TransferId, reason: str) -> TransferView:
        """End a transfer whose key has not left; its segments go unless another transfer needs them.

        Raises:
            Conflict: E-STATE once a key was released: what a recipient has is recalled, not cancelled.
        """

        def change(tx: Transaction) -> tuple[TransferView, list[SegmentId]]:
            record = self._own(tx, identity, transfer)
            machine = MACHINES[record.role]
            deliveries = tx.deliveries(transfer)
            if not may(machine, record.state, "cancel") or any(one.state in _TOO_LATE for one in deliveries):
                raise Conflict("E-STATE", f"transfer {transfer} is {_shown(record, deliveries)} and cannot be cancelled")
            waiting = [delivery for delivery in deliveries if may(DELIVERY, delivery.state, "cancel")]
            for delivery in waiting:
                tx.save_delivery(replace(delivery, state=step(DELIVERY, delivery.state, "cancel"), state_at=tx.now))
                credit(tx, transfer, delivery.destination, "cancelled")
            announce(tx, self._services, record, cause=RecallCause.CANCELLED, reason=reason, by=identity, deliveries=waiting)
            record = replace(record, state=step(machine, record.state, "cancel"), state_at=tx.now)
            tx.save_transfer(record)
            tx.delete_artifact_key(transfer)
            tx.forget_rows(transfer)
            tx.append(EntryType.TRANSFER_ENDED, {"transfer": transfer, "state": "cancelled", "why": reason, "by": identity})
            return self._view(tx, record), tx.unpin_transfer(transfer)

        view, orphans = await self._services.catalog.write(change)
        await self._services.remove_unneeded(orphans)
        return view

    async def retry(self, identity: SpiffeId, transfer: TransferId) -> TransferView:
        """Try again now what waits: a failed delivery, or a hold whose facts may have changed.

        Raises:
            Conflict: E-STATE if nothing about the transfer waits.
        """

        def change(tx: Transaction) -> TransferView:
            record = self._own(tx, identity, transfer)
            queued = _jobs_to_retry(record, tx.deliveries(transfer))
            if not queued:
                raise Conflict("E-STATE", f"transfer {transfer} is {_shown(record, tx.deliveries(transfer))}; nothing waits")
            for kind, key in queued:
                tx.queue_job(kind, key)
            return self._view(tx, record)

        return await self._services.catalog.write(change)

    def _is_admin(self, tx: Transaction, identity: SpiffeId) -> bool:
        return self._services.access.allows(tx.identity(identity), "admin", "*", "*")

    def visible(self, tx: Transaction, identity: SpiffeId, transfer: TransferId) -> TransferRecord:
        """Return a transfer that `identity` sends, administers or may approve; raise `NotFound` E-TRANSFER-UNKNOWN otherwise."""
        record, known = tx.transfer(transfer), tx.identity(identity)
        if record is not None and self._may_approve(known, record):
            return record
        if record is None or (record.sender != identity and not self._is_admin(tx, identity)):
            self._services.access.refuse_ended_action(known, "approve")
        return self._own(tx, identity, transfer)

    def _may_approve(self, known: IdentityRecord | None, record: TransferRecord) -> bool:
        return record.role == "origin" and self._services.access.allows(known, "approve", record.repository, record.lane)

    def _own(self, tx: Transaction, identity: SpiffeId, transfer: TransferId) -> TransferRecord:
        """Return a transfer that `identity` sends or administers: whoever may only approve it changes nothing else about it."""
        record = tx.transfer(transfer)
        if record is None or (record.sender != identity and not self._is_admin(tx, identity)):
            self._services.access.refuse_ended_action(tx.identity(identity), "admin")
            raise NotFound("E-TRANSFER-UNKNOWN", f"no transfer {transfer} that you may see")
        return record

    def _view(self, tx: Transaction, record: TransferRecord, *, receipts: bool = True) -> TransferView:
        show = partial(_delivery_view, tx, self._services, receipts=receipts)
        return TransferView(
            transfer=record.id,
            role=record.role,
            state=record.state,
            since=format_time(record.state_at),
            created=format_time(record.created_at),
            lane=record.lane,
            origin=record.origin,
            identity=record.agent,
            repository=record.repository,
            tag=record.tag,
            kind=record.kind,
            digest=record.digest,
            size=record.size,
            initiator=record.initiator,
            waybill_digest=record.waybill_digest,
            segments=record.segments,
            segments_received=record.segments_received,
            bytes_received=record.bytes_received,
            outcome=record.outcome,
            reasons=_reasons(record.reasons),
            deliveries=tuple(show(delivery) for delivery in tx.deliveries(record.id)),
            recall=own_recall(tx, self._services, record),
        )


_TOO_LATE = frozenset({"released", "delivered", "held", "quarantined"})


def _shown(record: TransferRecord, deliveries: "list[DeliveryRecord]") -> str:
    return ", ".join([record.state, *(f"{one.destination}: {one.state}" for one in deliveries)])


def _jobs_to_retry(record: TransferRecord, deliveries: "list[DeliveryRecord]") -> "list[tuple[str, str]]":
    jobs = []
    if record.role == "origin" and record.state in {"received", "held", "quarantined"}:
        jobs.append(("admit", str(record.id)))
    if record.role == "destination" and record.state in {"held", "quarantined"}:
        jobs.append(("deliver", str(record.id)))
    kinds = {"retrying": "forward", "stored": "release", "release-hold": "release", "released": "send-key"}
    kinds["needs-rewrap"] = "rewrap"
    if record.state == "admitted":
        kinds["offer-hold"] = "offer"
    jobs += [(kinds[one.state], f"{record.id}/{one.destination}") for one in deliveries if one.state in kinds]
    return jobs


def _delivery_view(tx: Transaction, services: Services, delivery: DeliveryRecord, *, receipts: bool) -> DeliveryView:
    def receipt(kind: ReceiptKind) -> dict[str, object] | None:
        body = None if not receipts else tx.document(delivery.transfer, documents.receipt_name(kind, delivery.destination))
        return None if body is None else dict(documents.envelope_json(body))

    return DeliveryView(
        destination=delivery.destination,
        state=delivery.state,
        since=format_time(delivery.state_at),
        outcome=delivery.outcome,
        reasons=_reasons(delivery.reasons),
        segments=delivery.segments,
        segments_sent=delivery.segments_sent,
        bytes_sent=delivery.bytes_sent,
        error=delivery.error,
        approvals=approvals_view(tx, services, delivery),
        stored_receipt=receipt(ReceiptKind.STORED),
        delivered_receipt=receipt(ReceiptKind.DELIVERED),
        recall=delivery_recall(tx, delivery.transfer, delivery.destination),
    )


def _reasons(rows: tuple[dict[str, JsonValue], ...]) -> tuple[ReasonView, ...]:
    """Read kept reasons, ours or those of a destination's signed decision (whose `cite` is one text)."""
    return tuple(
        ReasonView(
            rule=str(row["rule"]),
            outcome=str(row["outcome"]),
            text=str(row["text"]),
            remedy=str(row.get("remedy") or ""),
            cite=_cite(row.get("cite")),
        )
        for row in rows
    )


def _cite(said: JsonValue) -> tuple[str, ...]:
    """Return what a reason cites: a list in what this site kept, one text in what a destination signed."""
    if isinstance(said, list):
        return tuple(str(one) for one in said)
    return () if said is None else (str(said),)
