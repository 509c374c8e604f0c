"""What a site adds to its policy before a delivery passes a gate: the lane's floor, the approvals there are, signer and bases.

It runs inside the transaction that records the decision, so what was counted is what was recorded. A hold that approvals can
satisfy is signed and logged as it is, kept beside later decisions, and stays the same hold while nothing it rests on changes;
then approvals of it stay good, and anything else is a new hold that nobody has approved.

Rules:      1. a hold is satisfiable if each rule that holds names approvals, or the lane's floor alone asks for them
            2. an allow that rests on approvals ends with them  3. under `no-prefetch` the offer waits for the release
Spec:       docs/protocol.md section "Approvals"; DESIGN promise P7
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from carnet.approval import (
    APPROVALS_MAX,
    GATES,
    DecisionRequest,
    Tally,
    described,
    floor_needs,
    needs_of,
    tally,
)
from carnet.decision import Decision, Gate, Outcome
from carnet.envelope import Envelope
from carnet.identifiers import SiteName, TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import ApprovalsView, GivenView, NeedView, ReasonView, SignedStep
from carnet.policy.holding import HoldTime
from carnet.policy.obligations import NO_PREFETCH
from carnet.timestamps import parse_time
from carnet.trust import AgentStatement, TrustBundle
from gateway import documents
from gateway.base_rule import judge_recalled_bases
from gateway.deciding import Judgement, draft_decision, judge_signer, judge_waybill, record_decision
from gateway.hold_rule import (
    HOLDS,
    WAITING,
    escalations,
    judge_hold_end,
    judge_site_limit,
    keep_beginning,
    said_of_end,
    site_limit,
)
from gateway.ledger import credit, debit, rests_on_licence
from gateway.mode_rule import judge_mode
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, TransferRecord
from gateway.rewrapping import kept_release
from gateway.services import Services
from gateway.vouched import worth

_NAMES_MAX = 8


@dataclass(frozen=True)
class OpenHold:
    """A hold that waits for approvals: the signed decision, the request that it makes, and the approvals kept for it."""

    decision: Decision
    envelope: bytes
    index: int
    request: DecisionRequest
    approvals: tuple[Envelope, ...]

    def tally(self, tx: Transaction, services: Services, bundle: TrustBundle) -> Tally:
        """Return what its approvals come to now."""
        now = services.trust.floor.judged(tx.now)
        revoked = services.trust.revocations.state.revoked_keys(bundle)
        return tally(self.approvals, self.request, bundle, now=now, revoked=revoked)


def judge_delivery(
    tx: Transaction, services: Services, bundle: TrustBundle, asked: Judgement, record: TransferRecord, destination: SiteName
) -> Judgement:
    """Return what is decided about a delivery at `offer` or `release`, where policy judged `asked`."""
    gate, licensed = asked.gate, _judge_licence(asked)
    asked, time = judge_hold_end(
        tx, services, licensed, record, destination, lambda: _was_met(tx, services, bundle, record.id, gate, destination)
    )
    judgement = judge_signer(tx, services, _judge_approvals(tx, services, bundle, asked, record, destination, time), record.id)
    judgement = judge_site_limit(tx, services, judgement, record, destination)
    judgement = judge_mode(tx, bundle, judge_recalled_bases(tx, judgement, record.id, destination), record)
    forbids = any(one.kind == NO_PREFETCH for one in asked.decision.obligations)
    if asked.gate is not Gate.OFFER or judgement.outcome is not Outcome.ALLOW or not forbids:
        return judgement
    return _judge_both(tx, services, bundle, judgement, record, destination)


def record_delivery(
    tx: Transaction, services: Services, judgement: Judgement, record: TransferRecord, destination: SiteName
) -> None:
    """Sign, keep and log the decision about a delivery, and what it uses of a licence; a hold that stands is not made again."""
    if judgement.stands:
        return
    gate = judgement.gate
    if gate is Gate.RELEASE:
        _keep_ledger(tx, judgement, record, destination)
    key = recipient_key(tx, services, record.id, gate, destination)
    keep_beginning(tx, services, judgement, record, destination)
    index = record_decision(tx, services, judgement, record, destination=destination, recipient_key=key)
    hold, place = documents.hold_name(gate, destination), documents.hold_index_name(gate, destination)
    if judgement.asks:
        tx.put_document(record.id, hold, documents.need(tx, record.id, documents.decision_name(gate, destination)))
        tx.put_document(record.id, place, str(index).encode("ascii"))
    elif judgement.outcome is not Outcome.ALLOW and judgement.views[0].rule != NO_PREFETCH:
        # An offer that waits for its release keeps the approvals that it has.
        tx.delete_document(record.id, hold)
        tx.delete_document(record.id, place)
        tx.delete_document(record.id, documents.hold_begun_name(gate, destination))


def _judge_licence(asked: Judgement) -> Judgement:
    """Return `asked` unless it is a release that rests on a licence without room for it, whatever its rules asked of that."""
    licence = asked.licence
    if asked.gate is not Gate.RELEASE or licence is None or not rests_on_licence(asked.decision):
        return asked
    room = asked.known.get("licence.remaining")
    if room is not None and room.value is True:
        return asked
    if room is None:
        text = f"licence {licence.id} has a limit of value, and what this is worth in {licence.currency} was not declared"
        return asked.overruled(Outcome.HOLD, "licence-room", text, "push it again with -d value=AMOUNT:CURRENCY")
    text = f"this site's share of licence {licence.id} has no room for one more release"
    return asked.overruled(
        Outcome.DENY, "licence-room", text, "name another licence, or have people sign an edition with a larger share"
    )


def _keep_ledger(tx: Transaction, judgement: Judgement, record: TransferRecord, destination: SiteName) -> None:
    """Debit the licence that a release rests on; a release that is allowed no more is credited."""
    if judgement.outcome is not Outcome.ALLOW:
        credit(tx, record.id, destination, f"the release is decided again: {judgement.outcome.value}")
    elif judgement.licence is not None and rests_on_licence(judgement.decision):
        debit(tx, judgement.licence, record.id, destination, value=worth(judgement.known, judgement.licence) or 0)


def recipient_key(tx: Transaction, services: Services, transfer: TransferId, gate: Gate, destination: SiteName) -> str | None:
    """Return the digest of the key that a release would go to; at other gates none is named."""
    if gate is not Gate.RELEASE:
        return None
    return kept_release(tx, services, transfer, destination).key_digest


def read_hold(tx: Transaction, transfer: TransferId, gate: Gate, destination: SiteName) -> OpenHold | None:
    """Return the hold kept for a delivery at `gate`, current or not, or None."""
    body = tx.document(transfer, documents.hold_name(gate, destination))
    if body is None:
        return None
    decision = Decision.read_unverified(documents.read_envelope(body))
    statement = AgentStatement.read_unverified(documents.read_envelope(documents.need(tx, transfer, documents.AGENT_STATEMENT)))
    request = DecisionRequest.of(decision, documents.read_waybill(tx, transfer), statement)
    kept = tx.documents(transfer, documents.approval_name(request.digest, ""))
    approvals = tuple(documents.read_envelope(one) for one in list(kept.values())[:APPROVALS_MAX])
    index = int(documents.need(tx, transfer, documents.hold_index_name(gate, destination)))
    return OpenHold(decision, body, index, request, approvals)


def open_hold(tx: Transaction, services: Services, delivery: DeliveryRecord) -> OpenHold | None:
    """Return the hold that a delivery waits in for approvals now, or None: it is the last decision, and has not expired."""
    if delivery.state not in WAITING:
        return None
    for gate in GATES:
        last = tx.document(delivery.transfer, documents.decision_name(gate, delivery.destination))
        if last is None or last != tx.document(delivery.transfer, documents.hold_name(gate, delivery.destination)):
            continue
        hold = read_hold(tx, delivery.transfer, gate, delivery.destination)
        if hold is not None and services.trust.floor.judged(tx.now) < parse_time(hold.decision.not_after):
            return hold
    return None


def _was_met(
    tx: Transaction, services: Services, bundle: TrustBundle, transfer: TransferId, gate: Gate, destination: SiteName
) -> bool:
    """Tell whether the last request has ended, and everybody whom it asked had approved before."""
    hold = read_hold(tx, transfer, gate, destination)
    ended = None if hold is None else parse_time(hold.decision.not_after)
    if hold is None or ended is None or services.trust.floor.judged(tx.now) < ended:
        return False
    revoked = services.trust.revocations.state.revoked_keys(bundle)
    found = tally(hold.approvals, hold.request, bundle, now=ended - timedelta(seconds=1), revoked=revoked)
    return found.rejection is None and not found.missing(hold.request.needed)


def is_due(tx: Transaction, services: Services, delivery: DeliveryRecord) -> bool:
    """Tell whether a delivery that waits is to be decided again: nobody is asked, or a request or the site's time is over."""
    now, limit = services.trust.floor.judged(tx.now), site_limit(tx, services, delivery)
    kept = [read_hold(tx, delivery.transfer, gate, delivery.destination) for gate in GATES]
    over = any(hold is not None and now >= parse_time(hold.decision.not_after) for hold in kept)
    return over or (limit is not None and now >= limit) or open_hold(tx, services, delivery) is None


def queue_review(tx: Transaction, services: Services, delivery: DeliveryRecord, judgement: Judgement | None = None) -> None:
    """If a delivery waits, let it be looked at when the request that is open ends, and when nobody came in time.

    Also when that ends which the hold, just judged, rests on: the hours that a rule gives it, for one.
    """
    if delivery.state not in WAITING or delivery.outcome == Outcome.ALLOW:
        return
    hold = open_hold(tx, services, delivery)
    limit = site_limit(tx, services, delivery)
    ends = [limit] if limit is not None and (delivery.state in HOLDS or limit > tx.now) else []
    ends += [] if hold is None else [parse_time(hold.decision.not_after)]
    ends += [] if judgement is None or judgement.until is None else [judgement.until]
    if ends:
        delay_s = max(0.0, (min(ends) - tx.now).total_seconds())
        tx.queue_job("review", f"{delivery.transfer}/{delivery.destination}", delay_s=delay_s)


def decide_again(tx: Transaction, record: TransferRecord, delivery: DeliveryRecord) -> None:
    """Queue the decision that a delivery waits for."""
    key = f"{record.id}/{delivery.destination}"
    if delivery.state == "offer-hold":
        tx.queue_job(*(("offer", key) if record.state == "admitted" else ("admit", str(record.id))))
    elif delivery.state in WAITING:
        tx.queue_job("send-key" if delivery.state == "released" else "release", key)


async def prove_hold(services: Services, hold: OpenHold) -> SignedStep:
    """Return a hold with the proof of its log entry; waits until the entry is under a checkpoint."""
    proof = await services.log.prove(hold.index, ("transfer", "decision"))
    return SignedStep(decision=documents.envelope_json(hold.envelope), proof=proof)


def is_approved(tx: Transaction, services: Services, bundle: TrustBundle, transfer: TransferId, destination: SiteName) -> bool:
    """Tell whether the kept `release` decision still has the approvals that it rests on, if it rests on any."""
    body = tx.document(transfer, documents.decision_name(Gate.RELEASE, destination))
    needed = {} if body is None else needs_of(Decision.read_unverified(documents.read_envelope(body)))
    if not needed:
        return True
    hold = read_hold(tx, transfer, Gate.RELEASE, destination)
    return hold is not None and not hold.tally(tx, services, bundle).missing(needed)


def approvals_view(tx: Transaction, services: Services, delivery: DeliveryRecord) -> ApprovalsView | None:
    """Return what a delivery waits for, who has answered and who may, or None if it waits for nobody."""
    hold = open_hold(tx, services, delivery)
    if hold is None:
        return None
    bundle = services.trust.state().current
    found = hold.tally(tx, services, bundle)
    lacking, people = found.missing(hold.request.needed), hold.request.eligible(bundle)
    answered = {one.person for one in found.counted}
    return ApprovalsView(
        request=hold.request.digest,
        gate=hold.request.gate.value,
        until=hold.request.not_after,
        needed=tuple(
            NeedView(
                role=role,
                count=count,
                given=count - lacking.get(role, 0),
                people=tuple(name for name in people[role] if name not in answered),
            )
            for role, count in hold.request.needed.items()
        ),
        given=tuple(
            GivenView(person=one.person, role=one.role, verdict=one.verdict.value, at=one.at, reason=one.reason)
            for one in found.counted
        ),
    )


def _judge_approvals(
    tx: Transaction,
    services: Services,
    bundle: TrustBundle,
    asked: Judgement,
    record: TransferRecord,
    destination: SiteName,
    time: HoldTime,
) -> Judgement:
    """Return `asked` with the floor of the lane and the approvals there are (rules 1 and 2)."""
    floor = bundle.lane(record.lane, record.origin).release_floor if asked.gate is Gate.RELEASE else None
    if floor is not None and floor.cosignatures:
        said = f"lane {record.lane} asks for {floor.cosignatures} cosignatures, which no witness gives yet"
        return asked.overruled(Outcome.HOLD, "release-floor", said, "ask the roots for a lane without them")
    judgement = replace(asked, floor=floor_needs(floor) if floor is not None else {})
    is_open = judgement.outcome is Outcome.ALLOW or judgement.decision.is_satisfiable
    if not judgement.needed or not is_open or judgement.extra:
        return judgement
    hold = _as_hold(judgement, bundle, record, destination, time)
    kept = _same_hold(tx, services, hold, record, destination)
    if kept is None:
        return hold
    found = kept.tally(tx, services, bundle)
    if found.rejection is not None:
        return _rejected(judgement, found)
    if found.missing(judgement.needed):
        return replace(hold, stands=_is_last(tx, kept, record, destination))
    names = ", ".join(f"{one.person} ({one.role})" for one in found.counted)
    reason = ReasonView(rule="approvals", outcome=Outcome.ALLOW.value, text=f"approved by {names}")
    ends = parse_time(kept.decision.not_after)
    until = ends if judgement.until is None else min(ends, judgement.until)
    return replace(judgement, outcome=Outcome.ALLOW, extra=(reason,), until=until)


def _as_hold(
    judgement: Judgement, bundle: TrustBundle, record: TransferRecord, destination: SiteName, time: HoldTime
) -> Judgement:
    """Return the hold that asks for approvals; its words depend on policy and trust, not on who has answered yet.

    They change once when the hold is escalated, which makes another request of it.
    """
    from_floor = judgement.outcome is Outcome.ALLOW
    asks = f"lane {record.lane} asks for" if from_floor else "policy asks for"
    reason = ReasonView(
        rule="release-floor" if from_floor else "approvals",
        outcome=Outcome.HOLD.value,
        text=f"{asks} approval: {described(judgement.needed)}, by different people{said_of_end(judgement)}"[:TEXT_CHARS_MAX],
        remedy=f"each of them runs: carnet approve {record.id} --to {destination} ({_holders(judgement, bundle)})",
    )
    also = () if from_floor else (*escalations(time), *judgement.views)
    return replace(judgement, outcome=Outcome.HOLD, extra=(reason, *also), asks=True)


def _holders(judgement: Judgement, bundle: TrustBundle) -> str:
    """Return who holds the roles that are asked for, shortly; who of them may approve this one is shown with the request."""
    said = []
    for role in judgement.needed:
        names = [person.name for person in bundle.people_with(role)]
        more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
        said.append(f"{role}: {', '.join(names[:_NAMES_MAX]) or 'nobody in the trust bundle'}{more}")
    return "; ".join(said)


def _rejected(judgement: Judgement, found: Tally) -> Judgement:
    said = found.rejection
    assert said is not None  # noqa: S101 - asked for a rejection only
    why = f": {said.reason}" if said.reason else ""
    return replace(judgement, outcome=Outcome.ALLOW, extra=()).overruled(
        Outcome.DENY, "rejected", f"rejected by {said.person} ({said.role}){why}", "ask them, then push again"
    )


def _same_hold(
    tx: Transaction, services: Services, hold: Judgement, record: TransferRecord, destination: SiteName
) -> OpenHold | None:
    """Return the kept hold if the one that would be made now says the very same, and it has not expired."""
    kept = read_hold(tx, record.id, hold.gate, destination)
    if kept is None or services.trust.floor.judged(tx.now) >= parse_time(kept.decision.not_after):
        return None
    key = recipient_key(tx, services, record.id, hold.gate, destination)
    drafted = draft_decision(tx, services, hold, record, destination=destination, recipient_key=key)
    times = {"at": kept.decision.at, "not_after": kept.decision.not_after}
    return kept if drafted.model_copy(update=times) == kept.decision else None


def _is_last(tx: Transaction, hold: OpenHold, record: TransferRecord, destination: SiteName) -> bool:
    return tx.document(record.id, documents.decision_name(hold.decision.gate, destination)) == hold.envelope


def _judge_both(
    tx: Transaction, services: Services, bundle: TrustBundle, offer: Judgement, record: TransferRecord, destination: SiteName
) -> Judgement:
    """Return the offer after the release that has to allow first; a release that waits for approvals asks for them now (3)."""
    waybill = documents.read_waybill(tx, record.id)
    asked = judge_waybill(tx, services, bundle, Gate.RELEASE, waybill, destination=destination)
    release = judge_delivery(tx, services, bundle, asked, record, destination)
    if release.asks:
        record_delivery(tx, services, release, record, destination)
    first = next(iter(_refusals(release)), None)
    if first is None:
        return offer
    text = f"nothing is sent before its release is allowed: {first.text}"[:TEXT_CHARS_MAX]
    ends = [one for one in (offer.until, release.until) if one is not None]
    return replace(offer.overruled(release.outcome, NO_PREFETCH, text, first.remedy), until=min(ends, default=None))


def _refusals(judgement: Judgement) -> Iterator[ReasonView]:
    if judgement.outcome is not Outcome.ALLOW:
        yield from judgement.views
