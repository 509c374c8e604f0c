"""Turns policy into decisions of this site: facts gathered, outcome signed, recorded and logged in one transaction.

Everything that decides goes through here, so each decision has a signed document, a log entry that commits to it, and reasons in
the same words everywhere. A decision is acted upon only while it is current: same policy, same trust bundle, not expired, its
waybill's signer not revoked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

from carnet.approval import united
from carnet.decision import Decision, Gate, Outcome, Reason
from carnet.encoding import JsonValue, canonical
from carnet.errors import NotAuthorised, Refused
from carnet.identifiers import Digest, LaneName, SiteName, SpiffeId, TransferId
from carnet.licence import Licence, Used
from carnet.limits import REASONS_MAX, TEXT_CHARS_MAX
from carnet.messages import DeclareRequest, ReasonView, SignedStep
from carnet.policy import Assurance, Fact, Facts, Policy, PolicyDecision
from carnet.policy.explanation import obligations, reason_views, reasons
from carnet.policy.obligations import LEAVING, NO_ONWARD, binding
from carnet.policy.replay import DecisionInputs, keep_inputs
from carnet.release import site_recipient
from carnet.statement import parse_model
from carnet.steps import ENTRY_OF_GATE
from carnet.timestamps import format_time, parse_time
from carnet.trust import HOME_LANE, AgentStatement, LaneMode, TrustBundle
from carnet.waybill import Origin, Waybill, declared_facts
from gateway import documents
from gateway.copying import queue_copies
from gateway.duties import make_duties, reviews_overdue
from gateway.endorsing import lacking
from gateway.ledger import used_without
from gateway.obliging import Means, unmet
from gateway.onward import REMEDY, onward_problem
from gateway.policies import decide, gather_facts
from gateway.ports import Transaction
from gateway.records import TransferRecord
from gateway.released_under import FACT as GROUPS_EXPIRED
from gateway.released_under import groups_expired, keep_groups
from gateway.services import Services
from gateway.vouched import Trusted, declared_licence, vouch


@dataclass(frozen=True)
class Judgement:
    """What policy says at one gate for one party, before it is signed; `extra` are reasons of the site's own rules."""

    gate: Gate
    decision: PolicyDecision
    facts: Digest
    known: Facts
    """What was asked about, and the day of it."""
    on: date
    trust_version: int
    outcome: Outcome
    extra: tuple[ReasonView, ...] = ()
    floor: Mapping[str, int] = field(default_factory=dict)
    """The approvals that the lane asks for, beside those of policy."""
    asks: bool = False
    """It is a hold that approvals would satisfy."""
    stands: bool = False
    """It is the very hold that was recorded last."""
    until: datetime | None = None
    """It rests on something that ends then."""
    since: datetime | None = None
    """When the hold that it is began, for the hours that rules give it."""
    licence: Licence | None = None
    """What the sender relies upon, if this site keeps a licence of that id."""

    @property
    def needed(self) -> dict[str, int]:
        """The approvals asked for, by role."""
        return united({need.role: need.count for need in self.decision.asked}, self.floor)

    @property
    def policy(self) -> Digest:
        """The digest of the policy that decided."""
        return self.decision.policy

    @property
    def views(self) -> tuple[ReasonView, ...]:
        """The reasons that decided, as the protocol shows them."""
        return self.extra or reason_views(self.decision)

    def reason_rows(self) -> tuple[dict[str, JsonValue], ...]:
        """Return the reasons as the catalog keeps them."""
        return tuple(view.model_dump(mode="json") for view in self.views)

    @property
    def is_open(self) -> bool:
        """Whether it allows, or approvals alone would make it allow."""
        return not self.extra and (self.outcome is Outcome.ALLOW or self.decision.is_satisfiable)

    def overruled(self, outcome: Outcome, rule: str, text: str, remedy: str) -> "Judgement":
        """Return the judgement after a built-in rule of the site: the stricter outcome holds, with its own reason.

        A hold that approvals would satisfy gives way to one that they do not.
        """
        would_pass = outcome is Outcome.HOLD and self.outcome is Outcome.HOLD and (self.asks or self.is_open)
        if outcome.strictness <= self.outcome.strictness and not would_pass:
            return self
        reason = ReasonView(rule=rule, outcome=outcome.value, text=text, remedy=remedy)
        return replace(self, outcome=outcome, extra=(reason,), asks=False, stands=False)


def judge_declaration(
    tx: Transaction, services: Services, bundle: TrustBundle, request: DeclareRequest, origin: Origin
) -> list[Judgement]:
    """Return, for each destination, what would be decided from the declaration alone."""
    gate = Gate.RECEIPT if request.lane == HOME_LANE else Gate.OFFER
    declared = declared_facts(request, origin)
    found = []
    for destination in request.destinations:
        facts = gather_facts(
            declared,
            source="declaration",
            bundle=bundle,
            lane=bundle.lane(request.lane, services.site),
            destination=destination,
            recipient=site_recipient(bundle.trust_domain, destination),
            inspected=None if _opens(services, bundle, request.lane, services.site) else False,
        )
        found.append(_judge(tx, services, bundle, gate, facts, request.transfer, destination, request.digest))
    return found


def judge_waybill(
    tx: Transaction,
    services: Services,
    bundle: TrustBundle,
    gate: Gate,
    waybill: Waybill,
    *,
    destination: SiteName,
    consumer: SpiffeId | None = None,
) -> Judgement:
    """Return what policy decides at `gate` for a destination, or at `release` for a consumer who pulls here.

    In the transaction that records the decision: what it rests on, such as what a licence has left, is then what was recorded.
    """
    facts = gather_facts(
        declared_facts(waybill, waybill.origin),
        source="waybill",
        bundle=bundle,
        lane=bundle.lane(waybill.lane, waybill.origin.site),
        destination=destination,
        recipient=consumer or site_recipient(bundle.trust_domain, destination),
        inspected=_opens(services, bundle, waybill.lane, waybill.origin.site),
    )
    judgement = _judge(tx, services, bundle, gate, facts, waybill.transfer, destination, waybill.artifact)
    # Of a declaration it is not asked: anybody can name a digest, only who has the artifact can send it.
    leaves = gate in LEAVING and destination != services.site
    onward = onward_problem(tx, waybill.artifact, destination) if leaves else None
    return judgement if onward is None else judgement.overruled(Outcome.DENY, NO_ONWARD, onward[:TEXT_CHARS_MAX], REMEDY)


def _opens(services: Services, bundle: TrustBundle, lane: LaneName, origin: SiteName) -> bool:
    """Tell whether this site opens and verifies what comes on a lane before policy decides about it."""
    return services.site != origin or bundle.lane(lane, origin).mode is LaneMode.INSPECTED


def _judge(
    tx: Transaction,
    services: Services,
    bundle: TrustBundle,
    gate: Gate,
    known: dict[str, Fact],
    transfer: TransferId,
    destination: SiteName,
    artifact: Digest | None,
) -> Judgement:
    now = services.trust.floor.judged(tx.now)
    policy, revoked = services.policies.policy, services.trust.revocations.state.revoked_keys(bundle)
    licence = declared_licence(tx, known)
    vouched = vouch(
        tx,
        Trusted(bundle, revoked, policy),
        known,
        site=services.site,
        used=Used() if licence is None else used_without(tx, licence[1].id, transfer, destination),
        artifact=artifact,
        now=now,
    )
    facts = {**known, **vouched.facts}
    facts |= _site_facts(tx, services.site, policy, facts, transfer, now)
    decision = decide(policy, gate, facts, now.date())
    # An age as it was signed: what grows by the hour would void approvals by the hour.
    values = {name: fact.value for name, fact in facts.items()} | dict(vouched.signed)
    named: dict[str, JsonValue] = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    judgement = Judgement(
        gate, decision, Digest.of(canonical(named)), facts, now.date(), bundle.version, decision.outcome,
        until=min((one for one in (vouched.until, _next_change(policy, now)) if one is not None), default=None),
        licence=vouched.licence,
    )  # fmt: skip
    unsigned = lacking(decision.policy, services.policies.signatures, bundle, revoked)
    if unsigned is not None:
        remedy = "ask its owners to read and sign it: carnet-gateway policy sign DIRECTORY --key KEY"
        judgement = judgement.overruled(Outcome.HOLD, "policy-unsigned", unsigned[:TEXT_CHARS_MAX], remedy)
    if vouched.conflicts:
        remedy = "have one of the two corrected: the declaration with a new push, an attestation with a later edition"
        judgement = judgement.overruled(Outcome.HOLD, "facts-differ", "; ".join(vouched.conflicts)[:TEXT_CHARS_MAX], remedy)
    if not judgement.is_open:
        return judgement
    lacks = unmet(tx, _means(services, bundle, policy, now), binding(decision, Outcome.ALLOW), facts)
    return judgement if lacks is None else judgement.overruled(Outcome.HOLD, "obligation", lacks[0][:TEXT_CHARS_MAX], lacks[1])


def _means(services: Services, bundle: TrustBundle, policy: Policy, now: datetime) -> Means:
    return Means(services.site, bundle, services.copies, policy.groups, now)


def _site_facts(
    tx: Transaction, site: SiteName, policy: Policy, known: Facts, transfer: TransferId, now: datetime
) -> dict[str, Fact]:
    """Return what this site's own records tell, as far as the policy asks for it."""
    name, lane, found = "lane.reviews_overdue", known.get("lane"), dict[str, Fact]()
    if name in policy.facts_asked and lane is not None:
        found[name] = Fact(reviews_overdue(tx, str(lane.value), now), Assurance.DERIVED, "this site")
    if GROUPS_EXPIRED in policy.facts_asked:
        expired = groups_expired(tx, site, transfer, known)
        found |= {} if expired is None else {GROUPS_EXPIRED: expired}
    return found


def _next_change(policy: Policy, now: datetime) -> datetime | None:
    """Return when a file of the policy, or of groups, next begins or ends to count."""
    day = policy.changes_after(now.date())
    return None if day is None else datetime.combine(day, time(0), UTC)


def draft_decision(
    tx: Transaction,
    services: Services,
    judgement: Judgement,
    record: TransferRecord,
    *,
    destination: SiteName | None = None,
    consumer: SpiffeId | None = None,
    recipient_key: str | None = None,
) -> Decision:
    """Return the decision as it would be signed now."""
    packing = documents.read_packing(tx, record.id)
    by_policy = reasons(judgement.decision)
    known = {reason.rule for reason in by_policy}
    built_in = tuple(
        Reason.model_validate({"rule": view.rule, "outcome": view.outcome, "text": view.text, "remedy": view.remedy or None})
        for view in judgement.extra
        if view.rule not in known
    )
    end = tx.now + timedelta(hours=judgement.decision.valid_for_h)
    return Decision(
        gate=judgement.gate,
        outcome=judgement.outcome,
        site=services.site,
        transfer=record.id,
        waybill=packing.waybill,
        packing=packing.digest,
        destination=destination,
        consumer=consumer,
        recipient_key=recipient_key,
        policy=judgement.policy,
        trust_version=judgement.trust_version,
        facts=judgement.facts,
        reasons=(*built_in, *by_policy)[:REASONS_MAX],
        obligations=obligations(judgement.decision, judgement.floor),
        at=format_time(tx.now),
        not_after=format_time(end if judgement.until is None else min(end, judgement.until)),
    )


def record_decision(
    tx: Transaction,
    services: Services,
    judgement: Judgement,
    record: TransferRecord,
    *,
    destination: SiteName | None = None,
    consumer: SpiffeId | None = None,
    recipient_key: str | None = None,
) -> int:
    """Sign, keep and log the decision in this transaction; return the index of its log entry."""
    decision = draft_decision(
        tx, services, judgement, record, destination=destination, consumer=consumer, recipient_key=recipient_key
    )
    party = str(destination or consumer)
    tx.put_document(record.id, documents.decision_name(judgement.gate, party), decision.sign(services.keyring.signing).encode())
    inputs = canonical(keep_inputs(judgement.decision, judgement.known, judgement.on).to_json())
    tx.put_document(record.id, documents.decision_inputs_name(judgement.gate, party), inputs)
    if judgement.gate is Gate.RELEASE and judgement.outcome is Outcome.ALLOW:
        keep_groups(tx, record.id, party, judgement.known, inputs)
    index = tx.append(
        ENTRY_OF_GATE[judgement.gate],
        {
            "transfer": record.id,
            "decision": decision.digest,
            "inputs": Digest.of(inputs),
            "outcome": judgement.outcome.value,
            "party": party,
            "policy": judgement.policy,
            "waybill": decision.waybill,
        },
    )
    tx.put_document(record.id, documents.decision_index_name(judgement.gate, party), str(index).encode("ascii"))
    asked = binding(judgement.decision, judgement.outcome)
    make_duties(tx, services.site, record, asked, at=decision.at, decision=decision.digest, destination=destination)
    now = services.trust.floor.judged(tx.now)
    means = _means(services, services.trust.state().current, services.policies.policy, now)
    kept = documents.need(tx, record.id, documents.decision_name(judgement.gate, party))
    queue_copies(tx, means, asked, judgement.known, index=index, decision=kept, inputs=inputs)
    return index


def revoked_signer(tx: Transaction, services: Services, transfer: TransferId) -> str | None:
    """Return who signed the transfer's waybill and why its site took that agent back, or None if it did not."""
    body = tx.document(transfer, documents.AGENT_STATEMENT)
    if body is None:
        return None
    statement = AgentStatement.read_unverified(documents.read_envelope(body))
    reason = services.trust.revocations.state.reason_against(statement)
    return None if reason is None else f"{statement.identity} is revoked by its site ({reason})"


def require_signer(tx: Transaction, services: Services, transfer: TransferId) -> None:
    """Return if the signer of the transfer's waybill is not revoked; raise `NotAuthorised` E-REVOKED otherwise."""
    revoked = revoked_signer(tx, services, transfer)
    if revoked is not None:
        raise NotAuthorised("E-REVOKED", f"transfer {transfer} goes no further: {revoked}")


def judge_signer(tx: Transaction, services: Services, judgement: Judgement, transfer: TransferId) -> Judgement:
    """Hold what a revoked agent signed: nobody can tell whether it signed before its key was taken."""
    revoked = revoked_signer(tx, services, transfer)
    if revoked is None:
        return judgement
    return judgement.overruled(Outcome.HOLD, "revoked", revoked, "push the artifact again as an agent that is not revoked")


def is_current(tx: Transaction, services: Services, bundle: TrustBundle, transfer: TransferId, gate: Gate, party: str) -> bool:
    """Tell whether the kept decision about a destination still allows: policy, bundle and facts are those that it rests on."""
    body = tx.document(transfer, documents.decision_name(gate, party))
    inputs = tx.document(transfer, documents.decision_inputs_name(gate, party))
    if body is None or inputs is None:
        return False
    decision = Decision.read_unverified(documents.read_envelope(body))
    return (
        decision.outcome is Outcome.ALLOW
        and decision.policy == services.policies.digest
        and decision.trust_version == bundle.version
        and parse_time(decision.not_after) > services.trust.floor.judged(tx.now)
        and revoked_signer(tx, services, transfer) is None
        and _says_the_same(tx, services, bundle, decision, parse_model(DecisionInputs, inputs), SiteName(party))
    )


def _says_the_same(
    tx: Transaction, services: Services, bundle: TrustBundle, decision: Decision, inputs: DecisionInputs, destination: SiteName
) -> bool:
    """Tell whether policy, asked now, is asked the same and says the same: a licence or a word may have been withdrawn."""
    waybill = documents.read_waybill(tx, decision.transfer)
    now = judge_waybill(tx, services, bundle, decision.gate, waybill, destination=destination)
    return now.facts == decision.facts and now.decision.outcome is inputs.outcome and not now.extra


async def signed_step(services: Services, transfer: TransferId, gate: Gate, party: str) -> SignedStep:
    """Return the kept decision with the proof of its log entry; waits until the entry is under a checkpoint (P1)."""
    envelope, index = await services.catalog.read(
        lambda tx: (
            documents.need(tx, transfer, documents.decision_name(gate, party)),
            int(documents.need(tx, transfer, documents.decision_index_name(gate, party))),
        )
    )
    proof = await services.log.prove(index, ("transfer", "decision"))
    return SignedStep(decision=documents.envelope_json(envelope), proof=proof)


def refused(problem: str, why: tuple[ReasonView, ...], *, code: str = "E-DENIED") -> Refused:
    """Return the error for a refusal, with its reasons attached for the problem document."""
    first = why[0] if why else None
    said = f"{problem}: {first.text} (rule {first.rule})" if first is not None else problem
    error = Refused(code, said, remedy=(first.remedy or None) if first is not None else None)
    error.reasons = why
    return error
