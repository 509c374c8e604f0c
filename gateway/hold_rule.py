"""The hold rule: what follows when nobody satisfied a hold within the hours that rules of the policy give it.

Hours count from when the delivery began to wait at its gate, or people were asked. When they are over it is denied, or others are
asked and what was approved before is void; that is a decision like any other, signed and logged. A clock that cannot be right
ends nothing.

Rules:      1. a hold ends by the time alone: a site that was down decides, when it is back, as if it had been there
            2. a request for approvals ends no later than the hours of its hold, so nobody's approval counts after them
            3. a hold that is satisfied in time is over; one that comes after it has its hours anew
Spec:       docs/policy.md section "When a hold ends"
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from carnet.approval import described
from carnet.decision import Decision, Gate, Outcome
from carnet.identifiers import SiteName
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import ReasonView
from carnet.policy.explanation import ending
from carnet.policy.holding import HoldTime, hold_time
from carnet.policy.rules import HoldEnd
from carnet.timestamps import format_time, parse_time
from gateway import documents
from gateway.deciding import Judgement
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, TransferRecord
from gateway.services import Services

_HOLD_OF: Final = {Gate.OFFER: "offer-hold", Gate.RELEASE: "release-hold"}
HOLDS: Final = frozenset(_HOLD_OF.values())
"""States of a delivery that waits for a person, a fact or a date."""
_RELEASED: Final = "released"
WAITING: Final = HOLDS | {_RELEASED}
"""`released`: the approvals ended after a sending of the key was begun, and before the destination took it."""


def judge_hold_end(
    tx: Transaction,
    services: Services,
    asked: Judgement,
    record: TransferRecord,
    destination: SiteName,
    was_met: Callable[[], bool] = lambda: False,
) -> tuple[Judgement, HoldTime]:
    """Return `asked` after the hours that its rules give a hold, and what has become of the hold by them.

    `was_met` tells whether those who were asked last all approved in time: then what is asked now is another hold.

    Raises:
        Held: E-CLOCK if the hours are over by a clock that cannot be right.
    """
    ends = asked.decision.ends
    if asked.outcome is not Outcome.HOLD or not ends:
        return asked, HoldTime()
    now = services.trust.floor.judged(tx.now)
    begun = _begun(tx, asked.gate, record, destination, now) or now
    time = hold_time(ends, begun, now)
    is_past = time.over is not None and _state(tx, record, destination) not in WAITING
    if is_past or (time.is_due and was_met()):
        begun, time = now, hold_time(ends, now, now)  # (3)
    if time.is_due:
        services.trust.require_clock()
    if time.over is not None:
        remedy = "push it again, and have those ready who are asked; whoever owns the policy sets hold_hours"
        return asked.overruled(Outcome.DENY, "hold-expired", _said(time.over), remedy), time
    if time.escalated:
        asked = replace(asked, decision=asked.decision.escalated({end.rule for _, end in time.escalated}))
    return replace(asked, until=_earlier(asked.until, time.next), since=begun), time


def judge_site_limit(
    tx: Transaction, services: Services, judgement: Judgement, record: TransferRecord, destination: SiteName
) -> Judgement:
    """Deny what asks for approvals anew while its key may be on the way, once it did for as long as the site lets anything wait.

    Whatever else waits has a state of its own, and expires.

    Raises:
        Held: E-CLOCK if that is so by a clock that cannot be right.
    """
    released = [one for one in tx.deliveries(record.id) if one.destination == destination and one.state == _RELEASED]
    limit = site_limit(tx, services, released[0]) if judgement.asks and released else None
    if limit is None or services.trust.floor.judged(tx.now) < limit:
        return judgement
    hours = services.bounds.hold_hours
    services.trust.require_clock()
    remedy = "push again, and have those ready who are asked; the site sets limits.hold_hours"
    return judgement.overruled(Outcome.DENY, "hold-expired", f"nobody satisfied the hold within {hours} hours", remedy)


def keep_beginning(
    tx: Transaction, services: Services, judgement: Judgement, record: TransferRecord, destination: SiteName
) -> None:
    """Keep when a hold that asks for approvals began, however often it is asked anew; before its decision is recorded.

    It is kept apart from the state: under `no-prefetch` people are asked about a release while the delivery waits at its offer,
    and about a key that may be on its way while the delivery is released. An allow that is recorded ends it.
    """
    name = documents.hold_begun_name(judgement.gate, destination)
    if judgement.outcome is Outcome.ALLOW:
        tx.delete_document(record.id, name)
    elif judgement.asks:
        now = services.trust.floor.judged(tx.now)
        begun = judgement.since or _begun(tx, judgement.gate, record, destination, now) or now
        tx.put_document(record.id, name, format_time(begun).encode("ascii"))


def site_limit(tx: Transaction, services: Services, delivery: DeliveryRecord) -> datetime | None:
    """Return when a delivery has waited for as long as the site lets anything wait, or None if it does not wait."""
    hours = timedelta(hours=services.bounds.hold_hours)
    if delivery.state in HOLDS:
        return delivery.state_at + hours
    begun = tx.document(delivery.transfer, documents.hold_begun_name(Gate.RELEASE, delivery.destination))
    return parse_time(begun.decode("ascii")) + hours if begun is not None and delivery.state == _RELEASED else None


def said_of_end(judgement: Judgement) -> str:
    """Return what follows when nobody satisfies a hold; it is the same as long as policy is."""
    return "".join(f"; {ending(end)}" for end in judgement.decision.ends)


def escalations(time: HoldTime) -> tuple[ReasonView, ...]:
    """Return the reasons that say that a hold was escalated, since when and to whom."""
    return tuple(
        ReasonView(
            rule="hold-escalated",
            outcome=Outcome.HOLD.value,
            text=f"nobody satisfied the hold within {end.hours} hours: since {format_time(since)} rule {end.rule} asks "
            f"{_those(end)} instead"[:TEXT_CHARS_MAX],
            remedy="they run carnet approve; what was signed before that counts no more",
        )
        for since, end in time.escalated
    )


def _said(end: HoldEnd) -> str:
    """Return why a hold is over."""
    if not end.to:
        return f"nobody satisfied the hold within the {end.hours} hours that rule {end.rule} gives it"
    text = f"nobody satisfied the hold within {2 * end.hours} hours; for the last {end.hours} rule {end.rule} asked {_those(end)}"
    return text[:TEXT_CHARS_MAX]


def _those(end: HoldEnd) -> str:
    return described({need.role: need.count for need in end.to})


def _state(tx: Transaction, record: TransferRecord, destination: SiteName) -> str | None:
    return next((one.state for one in tx.deliveries(record.id) if one.destination == destination), None)


def _begun(tx: Transaction, gate: Gate, record: TransferRecord, destination: SiteName, now: datetime) -> datetime | None:
    """Return when the hold at `gate` began: with the state that waits at that gate, or when people were asked first.

    Of a delivery that does not wait, it counts for as long as approvals of the hold do.
    """
    begun = tx.document(record.id, documents.hold_begun_name(gate, destination))
    for delivery in tx.deliveries(record.id):
        if delivery.destination == destination and delivery.state == _HOLD_OF.get(gate):
            return delivery.state_at if begun is None else max(delivery.state_at, parse_time(begun.decode("ascii")))
    body = tx.document(record.id, documents.hold_name(gate, destination))
    if body is None or begun is None:
        return None
    hold = Decision.read_unverified(documents.read_envelope(body))
    counts = _state(tx, record, destination) in WAITING or now < parse_time(hold.not_after)
    return parse_time(begun.decode("ascii")) if counts else None


def _earlier(first: datetime | None, second: datetime | None) -> datetime | None:
    return min((one for one in (first, second) if one is not None), default=None)
