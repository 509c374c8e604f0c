"""Replay: a decision made again from what was kept of it, under the policy of then or of today.

A site keeps, for each decision, what policy was asked and what it said; the log commits to that document. Whoever has it and the
policy finds whether the answer follows from them, without asking the site anything.

Rules:      1. what is kept is enough: no clock, no trust bundle, no other document
            2. the same means every rule's part, word by word
Spec:       docs/policy.md section "Replay"
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Final, Literal

from pydantic import Field

from carnet.decision import Gate, Outcome
from carnet.encoding import JsonValue, canonical
from carnet.errors import PeerError
from carnet.identifiers import Digest
from carnet.policy.evaluation import PolicyDecision, evaluate
from carnet.policy.explanation import lines
from carnet.policy.facts import Assurance, Fact, Facts, FactValue
from carnet.policy.groups import GroupFile, Groups
from carnet.policy.rules import Policy, PolicyFile, combine
from carnet.statement import ShortText, WireModel
from carnet.timestamps import Day

_FACTS_MAX: Final = 512


class KeptFact(WireModel):
    """One fact as it was read."""

    value: bool | int | str | tuple[str, ...]
    assurance: Literal["declared", "derived", "attested", "verified"]
    source: ShortText


class DecisionInputs(WireModel):
    """What a policy was asked, and what it said: `said` is the digest of its whole explanation.

    `outcome` is the policy's own: approvals and the site's built-in rules come after it.
    """

    apiVersion: Literal["carnet/inputs/v1"] = "carnet/inputs/v1"  # noqa: N815 - as in policies
    gate: Gate
    policy: Digest
    on: Day | None = None
    facts: Annotated[dict[ShortText, KeptFact], Field(max_length=_FACTS_MAX)]
    outcome: Outcome
    said: Digest

    @property
    def known(self) -> dict[str, Fact]:
        """The facts, as rules read them."""
        return {name: Fact(one.value, Assurance[one.assurance.upper()], one.source) for name, one in self.facts.items()}


def keep_inputs(decision: PolicyDecision, facts: Facts, on: date | None) -> DecisionInputs:
    """Return what to keep of a decision that was made about `facts` on the day `on`."""
    return DecisionInputs(
        gate=decision.gate,
        policy=decision.policy,
        on=None if on is None else on.isoformat(),
        facts={
            name: KeptFact(value=_plain(fact.value), assurance=_word(fact.assurance), source=fact.source)
            for name, fact in facts.items()
        },
        outcome=decision.outcome,
        said=said_digest(decision),
    )


def replay(inputs: DecisionInputs, policy: Policy) -> PolicyDecision:
    """Return what `policy` says about what was kept. Never raises."""
    return evaluate(policy, inputs.gate, inputs.known, None if inputs.on is None else date.fromisoformat(inputs.on))


def said_digest(decision: PolicyDecision) -> Digest:
    """Return the digest of all that a policy said: outcome, every rule's part, approvals, obligations."""
    return Digest.of("\n".join(lines(decision)).encode("utf-8"))


def encode_policy(policy: Policy) -> bytes:
    """Return the policy as it is kept: its files, and the files of groups that its rules may name."""
    groups: list[JsonValue] = [file.to_json() for file in policy.groups.files]
    said: dict[str, JsonValue] = {"files": [file.to_json() for file in policy.files], "groups": groups}
    return canonical(said)


def decode_policy(data: bytes) -> Policy:
    """Return a policy that was kept; raise `PeerError` E-FORMAT if it is none."""
    try:
        said: Mapping[str, list[JsonValue]] = json.loads(data)
        groups = Groups(GroupFile.model_validate_json(canonical(one), strict=True) for one in said["groups"])
        files = [PolicyFile.model_validate_json(canonical(one), strict=True) for one in said["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PeerError("E-FORMAT", f"a policy that was kept cannot be read: {type(error).__name__}") from None
    return combine(files, groups)


def _plain(value: FactValue) -> FactValue:
    """Return the value without the type that its source gave it, such as that of a site's name."""
    if isinstance(value, tuple):
        return tuple(str(member) for member in value)
    return str(value) if isinstance(value, str) else value


def _word(assurance: Assurance) -> Literal["declared", "derived", "attested", "verified"]:
    words: tuple[Literal["declared"], Literal["derived"], Literal["attested"], Literal["verified"]]
    words = ("declared", "derived", "attested", "verified")
    return words[assurance]
