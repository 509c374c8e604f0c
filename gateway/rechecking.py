"""Rechecking: asks the rules at `recheck` about everything that was delivered, again and again, and takes back what they end.

At a destination and at home that is what is here; at an origin it is each delivery that arrived. A round goes over all of it,
newest first, a page a job: read first, and written only what changes, each transfer in a transaction of its own.

Rules:      1. a decision is recorded when it does not allow and is not the one recorded last, or allows again after such a one
            2. `deny` withdraws: here, or at the destination by a recall  3. `quarantine` locks what is here as a destination,
            and is a recall elsewhere  4. `hold` moves nothing; pulls ask the same rules themselves
            5. what cannot be decided stays as it is, is told, and keeps nothing else waiting
Spec:       docs/policy.md section "Recheck"
"""

from dataclasses import replace

from carnet.decision import Decision, Gate, Outcome
from carnet.encoding import canonical
from carnet.errors import CarnetError, Unavailable
from carnet.identifiers import Digest, SiteName, TransferId
from carnet.recall import RecallCause
from carnet.receipt import ReceiptKind
from carnet.timestamps import format_time
from carnet.transfer import DESTINATION, step
from carnet.trust import TrustBundle
from gateway import documents
from gateway.deciding import Judgement, draft_decision, record_decision
from gateway.ports import Transaction
from gateway.recalling import recall_delivery, recall_here
from gateway.recheck_round import Round, begin_page, end_page, is_due, queue_round
from gateway.records import DeliveryRecord, JobRecord, TransferRecord
from gateway.services import Services
from gateway.standing import READABLE, consequence, is_put_away, judge_recheck
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger
from gateway.withdrawing import remove_tag

PAGE = 50
_LOOKED_AT = ("admitted", "delivered", "quarantined", "held")
"""States of transfers of which something was delivered, or put away since: at their origin, at their destination."""
_PUT_AWAY = frozenset({"quarantined", "held"})
"""States of deliveries that their destination put away, if it had delivered them before; else it has not let them in yet."""
_TAKING_BACK = frozenset({Outcome.QUARANTINE, Outcome.DENY})


class Recheck:
    """Handles `recheck` jobs; `look` queues one when a round is due."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def look(self) -> None:
        """Queue a round if policy, trust, or what people vouched for changed since the last, or if that was long ago.

        Never upon what may be wrong: while clock or bundle cannot be relied upon, which others tell, nothing is queued.
        """
        services = self._services
        try:
            ground = self._ground(self._bundle())
        except CarnetError:
            return
        hours, now = services.bounds.recheck_hours, services.clock.now()
        if await services.catalog.read(lambda tx: is_due(tx, ground, hours, now)):
            await services.catalog.write(queue_round)

    async def run(self, _job: JobRecord) -> None:
        """Look at one page of what was delivered, and queue the next; the round goes on where the last page ended.

        Raises:
            Held: E-CLOCK, E-TRUST-EXPIRED.
        """
        services = self._services
        bundle = self._bundle()
        ground = self._ground(bundle)
        hours, now = services.bounds.recheck_hours, services.clock.now()
        current = await services.catalog.write(lambda tx: begin_page(tx, ground, hours, now))
        if current is None:
            return
        page, cursor = await services.catalog.read(lambda tx: page_of(tx, current))
        for record in page:
            await self._recheck(record, bundle)
        await services.catalog.write(lambda tx: end_page(tx, current, cursor))

    def _bundle(self) -> TrustBundle:
        self._services.trust.require_clock()
        return self._services.trust.ground()

    def _ground(self, bundle: TrustBundle) -> Digest:
        """Return the digest of what a round rests on beside what people vouched for: policy, bundle, keys that are revoked."""
        services = self._services
        revoked = sorted(services.trust.revocations.state.revoked_keys(bundle))
        return Digest.of(canonical([services.policies.digest, bundle.version, *revoked]))

    async def _recheck(self, record: TransferRecord, bundle: TrustBundle) -> None:
        """Decide about every delivery of one transfer that arrived; say why that cannot be done, if so (rule 5)."""
        services, transfer = self._services, record.id
        try:
            for destination in await services.catalog.read(lambda tx: _arrived(tx, services, transfer)):
                await self._recheck_at(transfer, destination, bundle)
        except Unavailable:
            raise  # the whole page is looked at again
        except CarnetError as error:
            get_logger().warning(events.RECHECK_FAILED, transfer=transfer, error=str(error))
        except Exception as error:  # noqa: BLE001 - a defect about one transfer must not keep the others from being looked at
            get_logger().error(events.RECHECK_FAILED, transfer=transfer, error=type(error).__name__)

    async def _recheck_at(self, transfer: TransferId, destination: SiteName, bundle: TrustBundle) -> None:
        """Decide, and record what is new (rule 1)."""
        catalog = self._services.catalog
        if await catalog.read(lambda tx: self._news(tx, transfer, destination, bundle)) is not None:
            await catalog.write(lambda tx: self._settle(tx, transfer, destination, bundle))

    def _news(
        self, tx: Transaction, transfer: TransferId, destination: SiteName, bundle: TrustBundle
    ) -> tuple[TransferRecord, Judgement, Outcome] | None:
        """Return the transfer with what is decided about it and what becomes of it, if that is not what is known already."""
        services, record = self._services, tx.transfer(transfer)
        if record is None or destination not in _arrived(tx, services, transfer):
            return None
        waybill = documents.read_waybill(tx, transfer)
        judgement = judge_recheck(tx, services, bundle, waybill, destination)
        last = _last_decision(tx, transfer, destination)
        if judgement.outcome is Outcome.ALLOW:
            is_known = last is None or last.outcome is Outcome.ALLOW or _is_away(tx, services, record, destination)
            return None if is_known else (record, judgement, Outcome.ALLOW)
        becomes = consequence(services, bundle, judgement)
        if becomes is not Outcome.DENY and _is_away(tx, services, record, destination):
            return None  # put away already: only a denial takes more
        if becomes not in _TAKING_BACK and last is not None:
            draft = draft_decision(tx, services, judgement, record, destination=destination)
            if _gist(draft) == _gist(last):
                return None
        return record, judgement, becomes

    def _settle(self, tx: Transaction, transfer: TransferId, destination: SiteName, bundle: TrustBundle) -> None:
        """Record the decision, and take back what it ends."""
        found = self._news(tx, transfer, destination, bundle)
        if found is None:
            return
        services, (record, judgement, becomes) = self._services, found
        record_decision(tx, services, judgement, record, destination=destination)
        if becomes not in _TAKING_BACK:
            return
        if record.role == "destination" and becomes is Outcome.QUARANTINE:
            _lock(tx, services, record, judgement)
            return
        first = judgement.views[0]
        reason = f"{first.text} (rule {first.rule}, at recheck)"
        if destination == services.site:
            recall_here(tx, services, record, cause=RecallCause.DENIED, reason=reason, by=services.identity)
        else:
            recall_delivery(tx, services, record, destination, cause=RecallCause.DENIED, reason=reason)


def page_of(tx: Transaction, current: Round) -> tuple[list[TransferRecord], str | None]:
    """Return the transfers that the round looks at next, and the cursor after them; None if there are no more."""
    page = tx.transfers(states=_LOOKED_AT, limit=PAGE, before=current.cursor)
    return page, f"{format_time(page[-1].created_at)}|{page[-1].id}" if len(page) == PAGE else None


def _arrived(tx: Transaction, services: Services, transfer: TransferId) -> list[SiteName]:
    """Return the destinations at which the transfer is, as far as is known here; this site only while its key is here."""
    record, site = tx.transfer(transfer), services.site
    if record is None:
        return []
    if record.role == "destination":
        arrived = [site] if record.state in READABLE or is_put_away(tx, services, record) else []
    else:
        arrived = [one.destination for one in tx.deliveries(transfer) if _has_arrived(tx, one, site)]
    return [one for one in arrived if one != site or tx.artifact_key(transfer) is not None]


def _has_arrived(tx: Transaction, delivery: DeliveryRecord, site: SiteName) -> bool:
    """Tell whether a delivery of this origin was made: what waits at a receipt was not, at home no more than abroad."""
    if delivery.state in _PUT_AWAY and delivery.destination != site:
        return tx.document(delivery.transfer, documents.receipt_name(ReceiptKind.DELIVERED, delivery.destination)) is not None
    return delivery.state == "delivered"


def _is_away(tx: Transaction, services: Services, record: TransferRecord, destination: SiteName) -> bool:
    """Tell whether it is put away there: nobody reads it."""
    if record.role == "destination":
        return is_put_away(tx, services, record)
    return all(one.state != "delivered" for one in tx.deliveries(record.id) if one.destination == destination)


def _last_decision(tx: Transaction, transfer: TransferId, destination: SiteName) -> Decision | None:
    body = tx.document(transfer, documents.decision_name(Gate.RECHECK, destination))
    return None if body is None else Decision.read_unverified(documents.read_envelope(body))


def _gist(decision: Decision) -> tuple[Outcome, frozenset[str]]:
    """Return what makes two decisions the same: the outcome and the rules that decided; ages in words do not."""
    return decision.outcome, frozenset(reason.rule for reason in decision.reasons if reason.outcome is decision.outcome)


def _lock(tx: Transaction, services: Services, record: TransferRecord, judgement: Judgement) -> None:
    """Put away what was delivered here: sealed bytes and key stay, nobody sees or pulls it, and its origin is told."""
    remove_tag(tx, record, services.identity)
    state = step(DESTINATION, record.state, "quarantine")
    tx.save_transfer(replace(record, state=state, state_at=tx.now, outcome=Outcome.QUARANTINE, reasons=judgement.reason_rows()))
    tx.queue_job("tell-decision", record.id)
