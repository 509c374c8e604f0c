"""Approvals: what persons are asked to sign, what they sign, and whose word counts for what.

A site that holds for approvals signs and logs a decision that says so. From that decision, the waybill and the agent statement
anybody builds the same **decision request**; its digest is what persons sign, with keys of their own that the trust bundle names.
So origin, destination, the persons themselves and an auditor each count for themselves, and no gateway can make an approval.

Rules:      1. a request is built from signed documents and from nothing else; any other hold, waybill, packing list, policy,
            facts, trust version or recipient key is another request  2. an approval counts if a key of that person signed it,
            the role is theirs now, the request is this one, and neither has expired  3. initiator, author and owners of the
            artifact approve nothing of it  4. a person counts once, whatever keys and roles they have
            5. one valid rejection outweighs every approval
Layout:     request digest = SHA-256 of the request's canonical JSON; approval: DSSE statement over that digest
Spec:       docs/statements.md sections "Decision request" and "Approval"; DESIGN promise P7
Example:    >>> missing({"security": 2}, ())
            {'security': 2}
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from carnet.decision import Decision, Gate, Outcome, Reason
from carnet.envelope import Envelope
from carnet.errors import CarnetError, Conflict, IntegrityError, NotAuthorised
from carnet.identifiers import AgentName, Digest, LaneName, Repository, SiteName, SpiffeId, Tag, TransferId
from carnet.limits import REASONS_MAX
from carnet.revocation import CLOCK_AHEAD
from carnet.statement import Hex32, Positive, ShortText, Statement, Text, WireModel, Word
from carnet.timestamps import Timestamp, format_time, parse_time
from carnet.trust import AgentStatement, ApprovalFloor, Person, ReleaseFloor, TrustBundle
from carnet.waybill import Waybill

APPROVALS: Final = "approvals"
"""The kind of the obligation in which a decision says whose approvals it asks for: role and count."""
APPROVALS_MAX: Final = 64
"""Approvals that one key release carries, and that are read about one request."""
REQUEST_LIFE_MAX: Final = timedelta(hours=720)
"""How long a request may run: as long as the longest decision that a policy may make."""
GATES: Final = (Gate.OFFER, Gate.RELEASE)
"""Where a hold can be satisfied by approvals."""
_ROLES_MAX = 64
_OWNERS_MAX = 64
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

Needs = Mapping[str, int]
"""How many different people of each role."""


class DecisionRequest(WireModel):
    """What persons are asked: may this artifact pass this gate towards this site, in spite of this hold?

    `decision` is the digest of the signed hold, which is in the log of `origin`; `signer` the key id under the waybill.
    """

    v: Literal[1] = 1
    type: Literal["application/vnd.carnet.decision-request.v1+json"] = "application/vnd.carnet.decision-request.v1+json"
    gate: Literal[Gate.OFFER, Gate.RELEASE]
    decision: Digest
    transfer: TransferId
    waybill: Digest
    packing: Digest
    artifact: Digest
    repository: Repository
    tag: Tag
    lane: LaneName
    origin: SiteName
    destination: SiteName
    recipient_key: Hex32 | None = None
    policy: Digest
    facts: Digest
    trust_version: Positive
    agent: SpiffeId
    signer: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    owners: Annotated[tuple[ShortText, ...], Field(max_length=_OWNERS_MAX)]
    initiator: ShortText | None = None
    needed: Annotated[dict[Word, Positive], Field(max_length=_ROLES_MAX)]
    reasons: Annotated[tuple[Reason, ...], Field(max_length=REASONS_MAX)]
    created: Timestamp
    not_after: Timestamp

    @classmethod
    def of(cls, hold: Decision, waybill: Waybill, statement: AgentStatement) -> "DecisionRequest":
        """Return the request that `hold` makes; the signatures of all three were verified by the caller.

        Raises:
            IntegrityError: E-DECISION if the decision asks nobody, or the three documents are not about one transfer.
        """
        needed = needs_of(hold)
        if hold.outcome is not Outcome.HOLD or hold.gate not in GATES or not needed:
            raise IntegrityError("E-DECISION", f"the {hold.gate} decision of {hold.site} ({hold.outcome}) asks for no approval")
        if hold.packing is None or hold.destination is None or hold.destination not in waybill.destinations:
            raise IntegrityError("E-DECISION", f"the {hold.gate} decision of {hold.site} is about no destination of its waybill")
        if (hold.transfer, hold.waybill, hold.site) != (waybill.transfer, waybill.digest, waybill.origin.site):
            raise IntegrityError("E-DECISION", f"the {hold.gate} decision of {hold.site} is about another waybill")
        if parse_time(hold.not_after) - parse_time(hold.at) > REQUEST_LIFE_MAX:
            raise IntegrityError("E-DECISION", f"the {hold.gate} decision of {hold.site} asks for longer than {REQUEST_LIFE_MAX}")
        if statement.identity != waybill.origin.agent:
            raise IntegrityError("E-SIGNATURE", f"the statement is about {statement.identity}, not {waybill.origin.agent}")
        return cls(
            gate=hold.gate,
            decision=hold.digest,
            transfer=hold.transfer,
            waybill=hold.waybill,
            packing=hold.packing,
            artifact=waybill.artifact,
            repository=waybill.repository,
            tag=waybill.tag,
            lane=waybill.lane,
            origin=hold.site,
            destination=hold.destination,
            recipient_key=hold.recipient_key,
            policy=hold.policy,
            facts=hold.facts,
            trust_version=hold.trust_version,
            agent=statement.identity,
            signer=statement.signing_key.keyid,
            owners=statement.owners,
            initiator=waybill.origin.initiator,
            needed=needed,
            reasons=tuple(reason for reason in hold.reasons if reason.outcome is Outcome.HOLD),
            created=hold.at,
            not_after=hold.not_after,
        )

    @property
    def digest(self) -> Digest:
        """What an approval names."""
        return Digest.of(self.encode())

    def excludes(self, person: Person) -> str | None:
        """Return why `person` may not approve this (rule 3), or None."""
        return _involvement(person, self.signer, self.agent, self.initiator, self.owners)

    def eligible(self, bundle: TrustBundle) -> dict[str, tuple[str, ...]]:
        """Return who may give each needed approval: names by role."""
        return {
            role: tuple(person.name for person in bundle.people_with(role) if self.excludes(person) is None)
            for role in sorted(self.needed)
        }


class Verdict(StrEnum):
    """What a person says."""

    APPROVE = "approve"
    REJECT = "reject"


class Approval(Statement):
    """One person's word about one decision request, in one role, signed by a key of their own."""

    payload_type: ClassVar[str] = "application/vnd.carnet.approval.v1+json"

    request: Digest
    person: AgentName
    role: Word
    verdict: Verdict
    reason: Text | None = None
    at: Timestamp


@dataclass(frozen=True)
class Tally:
    """What a set of approvals comes to: those that count, one a person, and why others do not."""

    counted: tuple[Approval, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def rejection(self) -> Approval | None:
        """The first rejection, or None (rule 5)."""
        return next((one for one in self.counted if one.verdict is Verdict.REJECT), None)

    def missing(self, needed: Needs) -> dict[str, int]:
        """Return how many approvals of each role are missing; empty means that all are there."""
        return missing(needed, self.counted)


def check_approval(
    envelope: Envelope, request: DecisionRequest, bundle: TrustBundle, *, now: datetime, revoked: Collection[str] = frozenset()
) -> Approval:
    """Return the approval in `envelope` if it counts for `request` at `now` (rules 2 and 3); `revoked` are key ids.

    Steps: (1) a key that the bundle names for that person signed it; (2) it is about this request; (3) the request still runs,
    and the approval was given while it did; (4) the role is asked for, and theirs; (5) they may approve this.

    Raises:
        PeerError: E-FORMAT. IntegrityError: E-SIGNATURE for step 1. Conflict: E-APPROVALS for steps 2 and 3.
        NotAuthorised: E-NOT-ALLOWED for an unknown person and steps 4 and 5.
    """
    claimed = Approval.read_unverified(envelope)
    person = next((one for one in bundle.people if one.name == claimed.person), None)
    if person is None:
        raise NotAuthorised("E-NOT-ALLOWED", f"nobody called {claimed.person} is in trust bundle {bundle.version}")
    keys = [key for key in person.keys if key.keyid not in revoked]
    approval = Approval.open(envelope, keys)  # (1)
    if approval.request != request.digest:  # (2)
        about = f"{request.repository}:{request.tag} to {request.destination}"
        raise Conflict("E-APPROVALS", f"{person.name} signed another request than the one that is open for {about}")
    _check_time(approval, request, now)  # (3)
    if approval.role not in request.needed or approval.role not in person.roles:  # (4)
        raise NotAuthorised("E-NOT-ALLOWED", f"{person.name} does not hold the role {approval.role}, or it is not asked for")
    why = request.excludes(person)  # (5)
    if why is not None and approval.verdict is Verdict.APPROVE:
        raise NotAuthorised("E-NOT-ALLOWED", f"{person.name} {why}, and cannot approve it", remedy="ask another person")
    return approval


def tally(
    envelopes: Iterable[Envelope],
    request: DecisionRequest,
    bundle: TrustBundle,
    *,
    now: datetime,
    revoked: Collection[str] = frozenset(),
) -> Tally:
    """Return what `envelopes` come to for `request`; what does not count is left out with its reason, whatever it is.

    The result does not depend on the order: of several approvals of one person the earliest counts, and a rejection before it.
    """
    valid: list[Approval] = []
    refused: list[str] = []
    for envelope in envelopes:
        try:
            valid.append(check_approval(envelope, request, bundle, now=now, revoked=revoked))
        except CarnetError as error:
            refused.append(str(error))
    counted: dict[str, Approval] = {}
    ordered = sorted(valid, key=lambda one: (one.verdict is Verdict.APPROVE, one.at, one.digest))
    for one in ordered:
        counted.setdefault(one.person, one)
    refused += [f"{one.person} counts once" for one in ordered if counted[one.person] != one]
    return Tally(tuple(counted.values()), tuple(sorted(refused)))


def missing(needed: Needs, given: Iterable[Approval]) -> dict[str, int]:
    """Return what `needed` lacks, by role; each person counts once, in the role they signed for (rule 4)."""
    roles: dict[str, str] = {}
    for one in given:
        if one.verdict is Verdict.APPROVE:
            roles.setdefault(one.person, one.role)
    lacking = {role: count - sum(role == found for found in roles.values()) for role, count in needed.items()}
    return {role: count for role, count in sorted(lacking.items()) if count > 0}


def floor_needs(floor: ReleaseFloor) -> dict[str, int]:
    """Return what the floor of a lane asks for; a role that stands twice asks for the larger count."""
    return united(*({one.role: one.count} for one in floor.approvals))


def needs_of(decision: Decision) -> dict[str, int]:
    """Return the approvals that a decision asks for; raise `IntegrityError` E-DECISION if it says so in no known form."""
    asked = [one.parameters for one in decision.obligations if one.kind == APPROVALS]
    try:
        found = [
            ApprovalFloor.model_validate({"role": role, "count": count}, strict=True)
            for parameters in asked
            for role, count in parameters.items()
        ]
    except ValueError:
        raise IntegrityError("E-DECISION", f"a decision of {decision.site} asks for approvals in no known form") from None
    return united(*({one.role: one.count} for one in found))


def united(*needs: Needs) -> dict[str, int]:
    """Return the larger count of each role."""
    counts: dict[str, int] = {}
    for one in needs:
        for role, count in one.items():
            counts[role] = max(count, counts.get(role, 0))
    return dict(sorted(counts.items()))


def described(needs: Needs) -> str:
    """Return needs as people read them: `1 of security, 2 of export-control`."""
    return ", ".join(f"{count} of {role}" for role, count in sorted(needs.items()))


def signing_time(request: DecisionRequest, now: datetime) -> str:
    """Return the time to write into an approval given at `now`: never before the request, by a clock that is a little behind."""
    return max(format_time(now), request.created)


def _check_time(approval: Approval, request: DecisionRequest, now: datetime) -> None:
    if now >= parse_time(request.not_after):
        raise Conflict("E-APPROVALS", f"the request that {approval.person} signed expired at {request.not_after}")
    given = parse_time(approval.at)
    if not parse_time(request.created) - CLOCK_AHEAD <= given < parse_time(request.not_after) or given > now + CLOCK_AHEAD:
        text = f"{approval.person} signed at {approval.at}, the request runs from {request.created} to {request.not_after}"
        raise Conflict("E-APPROVALS", text)


def involvement(person: Person, statement: AgentStatement, initiator: str | None) -> str | None:
    """Return what part `person` had in a transfer that the agent of `statement` sealed for `initiator`, or None."""
    return _involvement(person, statement.signing_key.keyid, statement.identity, initiator, statement.owners)


def _involvement(person: Person, signer: str, agent: SpiffeId, initiator: str | None, owners: Iterable[str]) -> str | None:
    """Initiator and owners are free text, so every name in them counts: `Ada <ada@acme.example>` is the person `ada`."""
    if any(key.keyid == signer for key in person.keys):
        return "signed the waybill"
    if person.name == agent.name or person.name in _names(initiator or ""):
        return "asked for this transfer"
    if any(person.name in _names(owner) for owner in owners):
        return "owns the agent that sealed it"
    return None


def _names(text: str) -> set[str]:
    """Return every name in a free text, spelled as names of people are."""
    return {name.replace(".", "-").replace("_", "-").strip("-") for name in _NAME.findall(text.casefold())}
