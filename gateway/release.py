"""Lets the key go: decides at `release`, and sends the destination its key with the decision and the log proof.

The ciphertext is there already; these few hundred bytes complete the delivery. The decision binds recipient key, policy and trust
versions; when any of these moved before the message leaves, it is taken again.
"""

from dataclasses import replace

from carnet.decision import Gate, Outcome
from carnet.entries import EntryType
from carnet.messages import CancelMessage, KeyReleaseMessage, SiteMessage
from carnet.release import site_recipient
from carnet.transfer import DELIVERY, may, step
from gateway import documents
from gateway.deciding import Judgement, is_current, judge_waybill, record_decision, signed_step
from gateway.forward import parse_delivery_key
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services

_EVENT_OF: dict[Outcome, str] = {
    Outcome.ALLOW: "release-allow",
    Outcome.HOLD: "release-hold",
    Outcome.QUARANTINE: "release-hold",
    Outcome.DENY: "release-deny",
}
_KEY_RELEASE_NUMBER = 0
_CANCEL_NUMBER = 1


class Release:
    """Handles `release`, `send-key` and `send-cancel` jobs; the key is `<transfer>/<destination>`."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def decide(self, job: JobRecord) -> None:
        """Decide whether this destination gets the key."""
        transfer, destination = parse_delivery_key(job.key)
        services = self._services
        bundle = services.trust.state().fresh(services.clock.now())
        waybill = await services.catalog.read(lambda tx: documents.read_waybill(tx, transfer))
        judgement = judge_waybill(services, bundle, Gate.RELEASE, waybill, destination=destination)
        floor = bundle.lane(waybill.lane, services.site).release_floor
        if judgement.outcome is Outcome.ALLOW and (floor.approvals or floor.cosignatures):
            needed = ", ".join(f"{one.count} of {one.role}" for one in floor.approvals) or f"{floor.cosignatures} cosignatures"
            judgement = judgement.overruled(
                Outcome.HOLD, "release-floor", f"lane {waybill.lane} asks for {needed}", "collect what the lane's floor names"
            )
        await services.catalog.write(lambda tx: self._record(tx, job.key, judgement))

    def _record(self, tx: Transaction, key: str, judgement: Judgement) -> None:
        transfer, destination = parse_delivery_key(key)
        record = tx.transfer(transfer)
        for delivery in tx.deliveries(transfer):
            if record is None or delivery.destination != destination or not may(DELIVERY, delivery.state, "release-allow"):
                continue
            recipient = site_recipient(self._services.trust_domain, destination)
            release = documents.read_release(documents.need(tx, transfer, documents.release_name(recipient)))
            record_decision(tx, self._services, judgement, record, destination=destination, recipient_key=release.key_digest)
            state = step(DELIVERY, delivery.state, _EVENT_OF[judgement.outcome])
            tx.save_delivery(
                replace(
                    delivery,
                    state=state,
                    state_at=tx.now,
                    outcome=judgement.outcome,
                    reasons=judgement.reason_rows(),
                )
            )
            if state == "released":
                tx.queue_job("send-key", key)
            elif state == "release-deny":
                tx.queue_job("send-cancel", key)

    async def send_key(self, job: JobRecord) -> None:
        """Send the key release with its decision under a checkpoint; decide again first if the decision is out of date."""
        transfer, destination = parse_delivery_key(job.key)
        services = self._services
        bundle = services.trust.state().fresh(services.clock.now())
        waiting, current = await services.catalog.read(
            lambda tx: (
                any(one.destination == destination and one.state == "released" for one in tx.deliveries(transfer)),
                is_current(tx, services, bundle, transfer, Gate.RELEASE, destination),
            )
        )
        if not waiting:
            return
        if not current and not await self._renew(job.key):
            return
        recipient = site_recipient(services.trust_domain, destination)
        release = await services.catalog.read(
            lambda tx: documents.read_release(documents.need(tx, transfer, documents.release_name(recipient)))
        )
        proof = await signed_step(services, transfer, Gate.RELEASE, destination)
        message = KeyReleaseMessage(number=_KEY_RELEASE_NUMBER, release=release, step=proof)
        await services.peer(destination).message(transfer, SiteMessage(body=message))
        await services.catalog.write(
            lambda tx: tx.append(
                EntryType.KEY_RELEASED, {"transfer": transfer, "recipient": recipient, "key": release.key_digest}
            )
        )

    async def _renew(self, key: str) -> bool:
        """Take the release decision again; tell whether it still allows. What was not sent can still be withheld."""
        transfer, destination = parse_delivery_key(key)
        services = self._services
        bundle = services.trust.state().fresh(services.clock.now())
        waybill = await services.catalog.read(lambda tx: documents.read_waybill(tx, transfer))
        judgement = judge_waybill(services, bundle, Gate.RELEASE, waybill, destination=destination)

        def record(tx: Transaction) -> bool:
            current = tx.transfer(transfer)
            if current is None:
                return False
            recipient = site_recipient(services.trust_domain, destination)
            release = documents.read_release(documents.need(tx, transfer, documents.release_name(recipient)))
            record_decision(tx, services, judgement, current, destination=destination, recipient_key=release.key_digest)
            if judgement.outcome is Outcome.ALLOW:
                return True
            for delivery in tx.deliveries(transfer):
                if delivery.destination == destination and may(DELIVERY, delivery.state, "deny"):
                    tx.save_delivery(
                        replace(
                            delivery,
                            state=step(DELIVERY, delivery.state, "deny"),
                            state_at=tx.now,
                            outcome=judgement.outcome,
                            reasons=judgement.reason_rows(),
                        )
                    )
                    tx.queue_job("send-cancel", key)
            return False

        return await services.catalog.write(record)

    async def send_cancel(self, job: JobRecord) -> None:
        """Tell the destination that this transfer's key will not come."""
        transfer, destination = parse_delivery_key(job.key)
        reasons = await self._services.catalog.read(
            lambda tx: [one.reasons for one in tx.deliveries(transfer) if one.destination == destination]
        )
        text = next((str(reason[0].get("text", "")) for reason in reasons if reason), "cancelled at the origin")
        message = CancelMessage(number=_CANCEL_NUMBER, reason=text)
        await self._services.peer(destination).message(transfer, SiteMessage(body=message))
