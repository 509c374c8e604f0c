"""Advice: what a site would decide from a declaration alone, the shortest list of what is missing, and until when it stands.

Rules:      1. advice promises nothing: what is decided later is decided from the waybill, and from what is known then
            2. of several destinations the strictest outcome is told; what not all of them lack names its destination
            3. where a key leaves, what its release will need is in the list too, with what the lane's floor asks for
            4. what a built-in rule of the site holds or denies nothing that is missing turns
Spec:       docs/policy.md section "What is missing"; docs/protocol.md, `DeclareResponse`
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from carnet.approval import Needs, described, floor_needs, united
from carnet.decision import Gate, Outcome
from carnet.identifiers import SiteName
from carnet.lack import LACKS_MAX, MissingView
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import Advice, DeclareRequest, ReasonView
from carnet.policy import Facts, Policy, PolicyDecision
from carnet.policy.explanation import reason_views
from carnet.policy.facts import Supplier
from carnet.policy.missing import LOOKED_MAX, Missing, MissingFact, Prospect, find_missing
from carnet.policy.supplying import how
from carnet.timestamps import format_time
from carnet.trust import Lane, TrustBundle
from gateway.deciding import Judgement
from gateway.policies import decide

_NAMES_MAX = 8
_WORST_LAST: Final = (Prospect.NOTHING, Prospect.LISTED, Prospect.UNKNOWN, Prospect.CLOSED)


def advise(
    judgements: Sequence[Judgement],
    policy: Policy,
    bundle: TrustBundle,
    lane: Lane,
    request: DeclareRequest,
    now: datetime,
    *,
    looks: bool = True,
) -> Advice:
    """Return the advice of `judgements`, one for each destination of `request` in its order, by `policy`.

    Pure, and not quick where something is missing: up to some tenths of a second for all destinations together. Unless it
    `looks`, what is missing is told as unknown.
    """
    most = LOOKED_MAX // (2 * len(judgements)) if looks else 0
    strictest = max(judgements, key=lambda judgement: judgement.outcome.strictness)
    sites = zip(judgements, request.destinations, strict=True)
    found = [_look_ahead(judgement, destination, policy, bundle, lane, most) for judgement, destination in sites]
    prospect = max((one.prospect for one in found), key=_WORST_LAST.index)
    missing = tuple(_joined([one.missing for one in found], request.destinations))
    if len(missing) > LACKS_MAX:
        prospect, missing = Prospect.UNKNOWN, ()
    release = max((one.release for one in found if one.release is not None), key=lambda one: one.strictness, default=None)
    return Advice(
        outcome=strictest.outcome.value,
        reasons=strictest.views,
        gate="receipt" if strictest.gate is Gate.RECEIPT else "offer",
        release=None if release is None else release.value,
        release_reasons=next((one.reasons for one in found if one.release is release), ()),
        prospect=prospect.value,
        missing=missing,
        until=format_time(min(_end(judgement, now) for judgement in judgements)),
    )


def _end(judgement: Judgement, now: datetime) -> datetime:
    """Return until when a decision made now would stand."""
    end = now + timedelta(hours=judgement.decision.valid_for_h)
    return end if judgement.until is None else min(end, judgement.until)


def _joined(lists: Sequence[tuple[MissingView, ...]], destinations: Sequence[SiteName]) -> Iterator[MissingView]:
    """Yield what all destinations lack once, then the rest with its destination."""
    shared = [view for view in lists[0] if all(view in views for views in lists)]
    yield from shared
    for views, destination in zip(lists, destinations, strict=True):
        yield from (view.model_copy(update={"destination": destination}) for view in views if view not in shared)


@dataclass(frozen=True)
class _Ahead:
    """What one destination lacks, and what would become of its key."""

    prospect: Prospect
    missing: tuple[MissingView, ...]
    release: Outcome | None = None
    reasons: tuple[ReasonView, ...] = ()


def _look_ahead(
    judgement: Judgement, destination: SiteName, policy: Policy, bundle: TrustBundle, lane: Lane, most: int
) -> _Ahead:
    known, on, asks = judgement.known, judgement.on, judgement.decision
    words = _Words(known, bundle, destination)
    if judgement.gate is not Gate.OFFER:
        found = _find(policy, known, [asks], on, most)
        return _Ahead(_barred(found.prospect, judgement), tuple(words.views(found, {})))
    release, floor = decide(policy, Gate.RELEASE, known, on), floor_needs(lane.release_floor)
    found = _find(policy, known, [asks, release], on, most)
    prospect = _barred(found.prospect, judgement)
    if prospect in (Prospect.CLOSED, Prospect.UNKNOWN):
        # The key does not leave as things are; what the offer lacks is worth knowing all the same.
        found = _find(policy, known, [asks], on, most)
    missing = tuple(words.views(found, floor))
    if prospect is Prospect.NOTHING and missing:
        prospect = Prospect.LISTED
    if lane.release_floor.cosignatures:
        prospect = Prospect.CLOSED
    of_lane = tuple(_floor_reasons(lane, floor))
    outcome = max(release.outcome, Outcome.HOLD if of_lane else Outcome.ALLOW, key=lambda one: one.strictness)
    return _Ahead(prospect, missing, outcome, (*reason_views(release), *of_lane))


def _find(policy: Policy, known: Facts, decisions: Sequence[PolicyDecision], on: date, most: int) -> Missing:
    """Return what is missing; what cannot be found out is told as unknown, for nothing is decided by it."""
    if not most and any(decision.outcome is not Outcome.ALLOW for decision in decisions):
        return Missing(Prospect.UNKNOWN)
    try:
        return find_missing(policy, known, decisions, on, most=most)
    except Exception:  # noqa: BLE001 - a defect here must not stop a push, whatever it is
        return Missing(Prospect.UNKNOWN)


def _barred(prospect: Prospect, judgement: Judgement) -> Prospect:
    """Return that nothing turns what a built-in rule of the site holds or denies (rule 4)."""
    return Prospect.CLOSED if judgement.extra else prospect


def _floor_reasons(lane: Lane, floor: Needs) -> Iterator[ReasonView]:
    """Yield why the lane itself holds each key."""
    if lane.release_floor.cosignatures:
        text = f"lane {lane.name} asks for {lane.release_floor.cosignatures} cosignatures, which no witness gives yet"
        yield _of_floor(text, "ask the roots for a lane without them")
    if floor:
        yield _of_floor(f"lane {lane.name} asks for approval: {described(floor)}, by different people", "have them approve it")


def _of_floor(text: str, remedy: str) -> ReasonView:
    return ReasonView(rule="release-floor", outcome=Outcome.HOLD.value, text=text[:TEXT_CHARS_MAX], remedy=remedy)


@dataclass(frozen=True)
class _Words:
    """Says what is missing so that each can see what is theirs to do."""

    known: Facts
    bundle: TrustBundle
    destination: SiteName

    def views(self, found: Missing, floor: Needs) -> Iterator[MissingView]:
        """Yield the facts, then the approvals: of the rules, and of the lane before the key leaves."""
        for fact in found.facts:
            yield MissingView(
                what=fact.name,
                wanted=fact.wanted[:TEXT_CHARS_MAX],
                who=self._who(fact)[:TEXT_CHARS_MAX],
                how=how(fact.name, fact.supplier, names_licence="export.licence" in self.known)[:TEXT_CHARS_MAX],
                gate=_name(fact.gate),
            )
        at_release = {need.role: need.count for gate, need in found.approvals if gate is Gate.RELEASE}
        for gate, need in found.approvals:
            if gate is not Gate.RELEASE:
                yield self._approvals(need.role, need.count, gate)
        for role, count in united(at_release, floor).items():
            yield self._approvals(role, count, Gate.RELEASE)

    def _approvals(self, role: str, count: int, gate: Gate) -> MissingView:
        names = [person.name for person in self.bundle.people_with(role)]
        more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
        people = f"{count} different people" if count > 1 else "one person"
        return MissingView(
            what=f"approval by {role}",
            wanted=f"{people}, {_BEFORE[gate]}",
            who=f"{', '.join(names[:_NAMES_MAX])}{more}" if names else f"nobody: no person in the trust bundle is {role}",
            how=f"carnet approve TRANSFER --to {self.destination}",
            gate=_name(gate),
        )

    def _who(self, fact: MissingFact) -> str:
        """Return who supplies a fact."""
        if fact.supplier is Supplier.SENDER:
            return "the sender"
        if fact.supplier is Supplier.SITE:
            return "the site itself, once it has the artifact"
        if not fact.roles:
            return "nobody yet: the policy names no role for it under attested_by"
        said = f"a person in the role {' or '.join(fact.roles)}"
        if fact.supplier is Supplier.LICENCE:
            names_it = "" if "export.licence" in self.known else "the sender, who names a licence that is kept; "
            return f"{names_it}{said}, who signs it"
        return said


_BEFORE: Final = {Gate.OFFER: "before anything is sent", Gate.RELEASE: "before the key leaves"}


def _name(gate: Gate) -> Literal["offer", "release", "receipt"]:
    if gate is Gate.RELEASE:
        return "release"
    return "receipt" if gate is Gate.RECEIPT else "offer"
