"""The decision: what a site's policy said at a gate, why, and what it asks for; signed by that site.

The words of policy live here, because a decision travels: the destination and the auditor read what the origin decided. How it
is reached is `policy`'s business.

Rules:      1. the strictest outcome wins: deny, quarantine, hold, allow  2. a decision that does not allow has a reason
            3. it is for one destination or one consumer, never for all
Spec:       docs/statements.md section "Decision"
Example:    >>> strictest([Outcome.ALLOW, Outcome.HOLD]).value
            'hold'
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from carnet.identifiers import Digest, SiteName, SpiffeId, TransferId
from carnet.limits import REASONS_MAX
from carnet.statement import FactMap, Hex32, Positive, ShortText, Statement, Text, WireModel, Word
from carnet.timestamps import Timestamp


class Outcome(StrEnum):
    """What a decision says; later members are stricter."""

    ALLOW = "allow"
    HOLD = "hold"
    QUARANTINE = "quarantine"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """0 for allow to 3 for deny."""
        return _STRICTNESS[self]


_STRICTNESS: Final = {outcome: rank for rank, outcome in enumerate(Outcome)}


def strictest(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the strictest of `outcomes`, which may not be empty: nothing said is not permission."""
    return max(outcomes, key=lambda outcome: outcome.strictness)


class Gate(StrEnum):
    """Where policy decides: before bytes leave, before a key leaves, before an artifact is visible, and again later."""

    OFFER = "offer"
    RELEASE = "release"
    RECEIPT = "receipt"
    RECHECK = "recheck"


class Reason(WireModel):
    """One rule's part in a decision: what it said, the facts it read, what would change it, and what it rests on."""

    rule: Word
    outcome: Outcome
    text: Text
    remedy: Text | None = None
    cite: ShortText | None = None
    inputs: FactMap = Field(default_factory=dict)


class Obligation(WireModel):
    """Something that must hold or be done along with an allow: approvals, retention, notice, a copy of the log."""

    kind: Word
    parameters: FactMap = Field(default_factory=dict)


class Decision(Statement):
    """One decision at one gate. `policy`, `facts`: digests of what was read; `recipient_key`: of the key released to."""

    payload_type: ClassVar[str] = "application/vnd.carnet.decision.v1+json"

    gate: Gate
    outcome: Outcome
    site: SiteName
    transfer: TransferId
    waybill: Digest
    packing: Digest | None = None
    destination: SiteName | None = None
    consumer: SpiffeId | None = None
    recipient_key: Hex32 | None = None
    policy: Digest
    trust_version: Positive
    facts: Digest
    reasons: Annotated[tuple[Reason, ...], Field(max_length=REASONS_MAX)] = ()
    obligations: Annotated[tuple[Obligation, ...], Field(max_length=REASONS_MAX)] = ()
    at: Timestamp
    not_after: Timestamp

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.destination is None) == (self.consumer is None):
            raise ValueError("a decision is for a destination or for a consumer, one of them")
        if self.outcome is not Outcome.ALLOW and not self.reasons:
            raise ValueError("a decision that does not allow has a reason")
        if self.not_after < self.at:
            raise ValueError("not_after is before at")
        return self
