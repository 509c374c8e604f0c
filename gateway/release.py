"""Lets the key go: decides at `release`, and sends the destination its key with the decision and the log proof.

The ciphertext is there already; these few hundred bytes complete the delivery. The decision binds recipient key, policy and trust
versions; when any of these moved before the message leaves, it is taken again.
"""

from dataclasses import replace

from carnet.decision import Gate, Outcome
from carnet.entries import EntryType
from carnet.errors import CarnetError, Conflict, Held
from carnet.identifiers import SiteName, TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import CancelMessage, KeyReleaseMessage, SiteMessage
from carnet.release import KeyRelease, site_recipient
from carnet.transfer import DELIVERY, EVENTS_OF_OUTCOME, may, step
from gateway import documents
from gateway.deciding import Judgement, is_current, judge_signer, judge_waybill, record_decision, signed_step
from gateway.forward import end_refused, parse_delivery_key
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services

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
        try:
            judgement = await self._judge(transfer, destination)
        except Held as error:
            problem = str(error)
            await self._services.catalog.write(lambda tx: _note_error(tx, transfer, destination, problem))
            raise
        await self._services.catalog.write(lambda tx: self._record(tx, job.key, judgement))

    async def _judge(self, transfer: TransferId, destination: SiteName) -> Judgement:
        """Ask policy, and hold what the lane's floor in the trust bundle asks for and nobody has given."""
        services = self._services
        bundle = services.trust.ground(destination)
        waybill = await services.catalog.read(lambda tx: documents.read_waybill(tx, transfer))
        judgement = judge_waybill(services, bundle, Gate.RELEASE, waybill, destination=destination)
        floor = bundle.lane(waybill.lane, services.site).release_floor
        if not floor.approvals and not floor.cosignatures:
            return judgement
        needed = ", ".join(f"{one.count} of {one.role}" for one in floor.approvals) or f"{floor.cosignatures} cosignatures"
        return judgement.overruled(
            Outcome.HOLD, "release-floor", f"lane {waybill.lane} asks for {needed}", "collect what the lane's floor names"
        )

    def _record(self, tx: Transaction, key: str, asked: Judgement) -> bool:
        """Record the decision about the delivery, if one is due, and queue what follows; tell whether the key may go."""
        transfer, destination = parse_delivery_key(key)
        judgement = judge_signer(tx, self._services, asked, transfer)
        record = tx.transfer(transfer)
        event = EVENTS_OF_OUTCOME["release"][judgement.outcome]
        for delivery in tx.deliveries(transfer):
            if record is None or delivery.destination != destination or not may(DELIVERY, delivery.state, event):
                continue
            release = _read_release(tx, self._services, transfer, destination)
            record_decision(tx, self._services, judgement, record, destination=destination, recipient_key=release.key_digest)
            state = step(DELIVERY, delivery.state, event)
            tx.save_delivery(
                replace(
                    delivery,
                    state=state,
                    state_at=tx.now,
                    outcome=judgement.outcome,
                    reasons=judgement.reason_rows(),
                    error=None,
                )
            )
            if state == "released":
                tx.queue_job("send-key", key)
            elif state == "release-deny":
                tx.queue_job("send-cancel", key)
            return state == "released"
        return False

    async def send_key(self, job: JobRecord) -> None:
        """Send the key release with its decision under a checkpoint; decide again first if the decision is out of date."""
        transfer, destination = parse_delivery_key(job.key)
        services = self._services
        try:
            if await self._may_send(job.key):
                await self._send_key(transfer, destination, job)
        except Conflict as error:
            problem = error.problem
            await services.catalog.write(lambda tx: end_refused(tx, transfer, destination, problem))
        except CarnetError as error:
            problem = str(error)
            await services.catalog.write(lambda tx: _note_error(tx, transfer, destination, problem))
            raise

    async def _may_send(self, key: str) -> bool:
        """Tell whether the key may go now; a decision that is out of date is taken again.

        Once a sending was begun the key may have arrived, so a stricter decision does not take it back: that is a recall's work.
        """
        transfer, destination = parse_delivery_key(key)
        services = self._services
        bundle = services.trust.ground(destination)
        waiting, current, begun = await services.catalog.read(
            lambda tx: (
                any(one.destination == destination and one.state == "released" for one in tx.deliveries(transfer)),
                is_current(tx, services, bundle, transfer, Gate.RELEASE, destination),
                tx.document(transfer, _begun_name(destination)) is not None,
            )
        )
        if not waiting or current:
            return waiting
        judgement = await self._judge(transfer, destination)
        if begun and judgement.outcome is not Outcome.ALLOW:
            text = f"the key may have left before policy changed ({judgement.views[0].text})"
            await services.catalog.write(lambda tx: _note_error(tx, transfer, destination, text))
            return False
        return await services.catalog.write(lambda tx: self._record(tx, key, judgement))

    async def _send_key(self, transfer: TransferId, destination: SiteName, job: JobRecord) -> None:
        """Log that the key leaves, wait until that is under a checkpoint, then send it (P1, P5)."""
        services = self._services

        def begin(tx: Transaction) -> tuple[KeyRelease, int]:
            release = _read_release(tx, services, transfer, destination)
            known = tx.document(transfer, _begun_name(destination))
            if known is not None:
                return release, int(known)
            index = tx.append(
                EntryType.KEY_RELEASED,
                {"transfer": transfer, "recipient": release.recipient, "key": release.key_digest},
            )
            tx.put_document(transfer, _begun_name(destination), str(index).encode("ascii"))
            return release, index

        release, index = await services.catalog.write(begin)
        await services.log.checkpointed(index)
        proof = await signed_step(services, transfer, Gate.RELEASE, destination)
        message = KeyReleaseMessage(number=_KEY_RELEASE_NUMBER, release=release, step=proof)
        line = await services.courier.line(transfer, destination, job)
        await line.message(SiteMessage(body=message, revocations=services.trust.own_revocations().revocations))

    async def send_cancel(self, job: JobRecord) -> None:
        """Tell the destination that this transfer's key will not come."""
        transfer, destination = parse_delivery_key(job.key)
        reasons = await self._services.catalog.read(
            lambda tx: [one.reasons for one in tx.deliveries(transfer) if one.destination == destination]
        )
        text = next((str(reason[0].get("text", "")) for reason in reasons if reason), "cancelled at the origin")
        message = CancelMessage(number=_CANCEL_NUMBER, reason=text)
        line = await self._services.courier.line(transfer, destination, job)
        await line.message(SiteMessage(body=message))


def _begun_name(destination: SiteName) -> str:
    """Name the document that says that a sending of the key was begun: the index of its log entry."""
    return f"key-released/{destination}"


def _read_release(tx: Transaction, services: Services, transfer: TransferId, destination: SiteName) -> KeyRelease:
    recipient = site_recipient(services.trust_domain, destination)
    return documents.read_release(documents.need(tx, transfer, documents.release_name(recipient)))


def _note_error(tx: Transaction, transfer: TransferId, destination: SiteName, problem: str) -> None:
    for delivery in tx.deliveries(transfer):
        if delivery.destination == destination:
            tx.save_delivery(replace(delivery, error=problem[:TEXT_CHARS_MAX], attempts=delivery.attempts + 1))
