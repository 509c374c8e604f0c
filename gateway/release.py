"""Lets the key go: decides at `release`, and sends the destination its key with the decision and the log proof.

The ciphertext is there already; these few hundred bytes complete the delivery. The decision binds recipient key, policy and trust
versions; when any of these moved before the message leaves, it is taken again.
"""

from dataclasses import replace

from carnet.approval import needs_of
from carnet.decision import Decision, Gate, Outcome
from carnet.entries import EntryType
from carnet.errors import CarnetError, Conflict, Held
from carnet.identifiers import SiteName, TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import ApprovedHold, KeyReleaseMessage, SiteMessage
from carnet.recall import RecallCause
from carnet.release import KeyRelease
from carnet.transfer import DELIVERY, EVENTS_OF_OUTCOME, may, step
from carnet.trust import TrustBundle
from gateway import documents
from gateway.approving import OpenHold, is_approved, judge_delivery, prove_hold, queue_review, read_hold, record_delivery
from gateway.deciding import Judgement, is_current, judge_waybill, signed_step
from gateway.forward import end_refused, parse_delivery_key
from gateway.needs_rewrap import NeedsRewrap, rewraps
from gateway.ports import Transaction
from gateway.recall_signing import announce
from gateway.records import DeliveryRecord, JobRecord
from gateway.rewrapping import is_wrapped_well, kept_release, usable_release
from gateway.services import Services

_KEY_RELEASE_NUMBER = 0
"""Of the first key; a key that was wrapped again has the number after the recall's, and so on."""
_NEXT_NUMBER = 2


class Release:
    """Handles `release` and `send-key` jobs; the key is `<transfer>/<destination>`."""

    def __init__(self, services: Services, needs_rewrap: NeedsRewrap) -> None:
        """Use the site's services; `needs_rewrap` is told of keys that a destination cannot use."""
        self._services = services
        self._needs_rewrap = needs_rewrap

    async def decide(self, job: JobRecord) -> None:
        """Decide whether this destination gets the key."""
        transfer, destination = parse_delivery_key(job.key)
        try:
            bundle = self._services.trust.ground(destination)
            await self._services.catalog.write(
                lambda tx: self._record(tx, job.key, self._ask(tx, bundle, transfer, destination), bundle)
            )
        except Held as error:
            if error.code == "E-REWRAP":
                await self._needs_rewrap.asked(transfer, destination, error.problem)
                return
            problem = str(error)
            await self._services.catalog.write(lambda tx: _note_error(tx, transfer, destination, problem))
            raise

    def _record(self, tx: Transaction, key: str, asked: Judgement, bundle: TrustBundle) -> bool:
        """Record the decision about the delivery, if one is due, and queue what follows; tell whether the key may go."""
        transfer, destination = parse_delivery_key(key)
        record = tx.transfer(transfer)
        for delivery in tx.deliveries(transfer):
            if record is None or delivery.destination != destination or not may(DELIVERY, delivery.state, "release-allow"):
                continue
            usable_release(tx, self._services, transfer, destination)
            judgement = judge_delivery(tx, self._services, bundle, asked, record, destination)
            if judgement.outcome is Outcome.HOLD and not judgement.asks and _is_begun(tx, transfer, destination):
                _note_late(tx, transfer, destination, judgement)
                return False
            record_delivery(tx, self._services, judgement, record, destination)
            state = self._next_state(tx, delivery, judgement)
            saved = replace(
                delivery,
                state=state,
                state_at=delivery.state_at if state == delivery.state else tx.now,
                outcome=judgement.outcome,
                reasons=judgement.reason_rows(),
                error=None,
            )
            tx.save_delivery(saved)
            queue_review(tx, self._services, saved, judgement)
            if state == "released" and judgement.outcome is Outcome.ALLOW:
                tx.queue_job("send-key", key)
                return True
            if state == "release-deny":
                reason = judgement.views[0].text
                announce(tx, self._services, record, cause=RecallCause.DENIED, reason=reason, deliveries=[saved])
        return False

    def _ask(self, tx: Transaction, bundle: TrustBundle, transfer: TransferId, destination: SiteName) -> Judgement:
        waybill = documents.read_waybill(tx, transfer)
        return judge_waybill(tx, self._services, bundle, Gate.RELEASE, waybill, destination=destination)

    def _next_state(self, tx: Transaction, delivery: DeliveryRecord, judgement: Judgement) -> str:
        """Return the state after the decision. A key that may have left is not taken back by a hold: its delivery stays released.

        Nothing is sent then either, before persons approve again. A rejection ends it, and a recall takes back what arrived.
        """
        if judgement.asks and _is_begun(tx, delivery.transfer, delivery.destination):
            return delivery.state
        return step(DELIVERY, delivery.state, EVENTS_OF_OUTCOME["release"][judgement.outcome])

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
            if error.code == "E-REWRAP":
                await self._needs_rewrap.asked(transfer, destination, error.problem)
                return
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

        def look(tx: Transaction) -> tuple[bool, bool] | None:
            if not _is_released(tx, transfer, destination):
                return None  # recalled meanwhile: what the rest would read is gone
            current = (
                is_current(tx, services, bundle, transfer, Gate.RELEASE, destination)
                and is_approved(tx, services, bundle, transfer, destination)
                and is_wrapped_well(tx, services, transfer, destination)
            )
            return current, _is_begun(tx, transfer, destination)

        found = await services.catalog.read(look)
        if found is None:
            return False
        current, begun = found
        if current:
            return True

        def decide_again(tx: Transaction) -> bool:
            asked = self._ask(tx, bundle, transfer, destination)
            if begun and asked.outcome is not Outcome.ALLOW and not asked.is_open:
                _note_late(tx, transfer, destination, asked)
                return False
            return self._record(tx, key, asked, bundle)

        return await services.catalog.write(decide_again)

    async def _send_key(self, transfer: TransferId, destination: SiteName, job: JobRecord) -> None:
        """Log that the key leaves, wait until that is under a checkpoint, then send it (P1, P5)."""
        services = self._services

        def begin(tx: Transaction) -> tuple[KeyRelease, int, int] | None:
            if not _is_released(tx, transfer, destination):
                return None  # recalled since it was looked at
            release = kept_release(tx, services, transfer, destination)
            again = rewraps(tx, transfer, destination)
            number = _NEXT_NUMBER + again - 1 if again else _KEY_RELEASE_NUMBER
            known = tx.document(transfer, documents.key_sent_name(destination))
            if known is not None:
                return release, int(known), number
            index = tx.append(
                EntryType.KEY_RELEASED,
                {"transfer": transfer, "recipient": release.recipient, "key": release.key_digest},
            )
            tx.put_document(transfer, documents.key_sent_name(destination), str(index).encode("ascii"))
            return release, index, number

        begun = await services.catalog.write(begin)
        if begun is None:
            return
        release, index, number = begun
        await services.log.checkpointed(index)
        proof = await signed_step(services, transfer, Gate.RELEASE, destination)
        approved = await self._approved(transfer, destination)
        message = KeyReleaseMessage(number=number, release=release, step=proof, approved=approved)
        line = await services.courier.line(transfer, destination, job)
        await line.message(SiteMessage(body=message, revocations=services.trust.own_revocations().revocations))

    async def _approved(self, transfer: TransferId, destination: SiteName) -> ApprovedHold | None:
        """Return the hold that persons approved, proved, with their approvals; None if the release rests on none."""

        def look(tx: Transaction) -> OpenHold | None:
            body = documents.need(tx, transfer, documents.decision_name(Gate.RELEASE, destination))
            needed = needs_of(Decision.read_unverified(documents.read_envelope(body)))
            return read_hold(tx, transfer, Gate.RELEASE, destination) if needed else None

        hold = await self._services.catalog.read(look)
        return (
            None
            if hold is None
            else ApprovedHold(
                hold=await prove_hold(self._services, hold), approvals=tuple(one.to_json() for one in hold.approvals)
            )
        )


def _is_begun(tx: Transaction, transfer: TransferId, destination: SiteName) -> bool:
    """Tell whether a sending of the key was begun: it may have arrived, whatever came of that."""
    return tx.document(transfer, documents.key_sent_name(destination)) is not None


def _is_released(tx: Transaction, transfer: TransferId, destination: SiteName) -> bool:
    return any(one.destination == destination and one.state == "released" for one in tx.deliveries(transfer))


def _note_late(tx: Transaction, transfer: TransferId, destination: SiteName, judgement: Judgement) -> None:
    """Say why a key that may have left is not sent again; what arrived is taken back by a recall alone."""
    reason = judgement.views[0].text
    text = f"the key may have left before this was known ({reason}); retry when policy permits it again, or recall"
    _note_error(tx, transfer, destination, text)


def _note_error(tx: Transaction, transfer: TransferId, destination: SiteName, problem: str) -> None:
    for delivery in tx.deliveries(transfer):
        if delivery.destination == destination:
            tx.save_delivery(replace(delivery, error=problem[:TEXT_CHARS_MAX], attempts=delivery.attempts + 1))
