"""Makes the decisions about a transfer again, from what this site kept of them.

Rules:      1. nothing is changed  2. what was not kept, or cannot be read, is said and is never taken for the same
Spec:       docs/policy.md section "Replay"
"""

from dataclasses import dataclass

from carnet.encoding import JsonValue
from carnet.errors import IntegrityError, NotFound
from carnet.identifiers import Digest, TransferId
from carnet.policy import Policy, PolicyDecision
from carnet.policy.replay import DecisionInputs, decode_policy, replay, said_digest
from carnet.statement import parse_model
from gateway.documents import DECISION_INPUTS
from gateway.policy_record import KEPT
from gateway.ports import Transaction


@dataclass(frozen=True)
class Replayed:
    """One decision made again: what it was, and what it is now."""

    party: str
    inputs: DecisionInputs
    decision: PolicyDecision

    @property
    def is_same(self) -> bool:
        """Whether every word of it is as it was."""
        return said_digest(self.decision) == self.inputs.said

    def lines(self) -> list[str]:
        """Return it for people: as it was, or what decided then and now."""
        was, now = self.inputs, self.decision
        head = f"{was.gate.value} for {self.party} on {was.on or 'a day that was not kept'}"
        if self.is_same:
            return [f"{head}: {was.outcome.value}, the same"]
        rules = ", ".join(result.rule for result in now.deciding)
        if now.policy == was.policy:
            return [f"{head}: was {was.outcome.value}, comes out {now.outcome.value} by {rules}: NOT THE SAME"]
        return [f"{head}: was {was.outcome.value}, would be {now.outcome.value} by {rules}"]

    def document(self) -> dict[str, JsonValue]:
        """Return it for programs."""
        return {
            "gate": self.inputs.gate.value,
            "party": self.party,
            "on": self.inputs.on,
            "policy": self.inputs.policy,
            "was": self.inputs.outcome.value,
            "under": self.decision.policy,
            "is": self.decision.outcome.value,
            "by": [result.rule for result in self.decision.deciding],
            "same": self.is_same,
        }


def replay_transfer(tx: Transaction, transfer: TransferId, policy: Policy | None) -> list[Replayed]:
    """Return each decision about `transfer` made again, under the policy of then or under `policy`.

    Raises `NotFound` E-TRANSFER-UNKNOWN if nothing was kept of it, and E-REPLAY if the policy of then was not kept.
    """
    kept = tx.documents(transfer, DECISION_INPUTS)
    if not kept:
        raise NotFound("E-TRANSFER-UNKNOWN", f"nothing was kept of decisions about the transfer {transfer}")
    found = []
    for name, body in sorted(kept.items()):
        inputs = parse_model(DecisionInputs, body)
        asked = _policy_of_then(tx, inputs.policy) if policy is None else policy
        found.append(Replayed(name.split("/", 2)[2], inputs, replay(inputs, asked)))
    return found


def _policy_of_then(tx: Transaction, digest: Digest) -> Policy:
    body = tx.site_document(KEPT + digest)
    if body is None:
        raise NotFound("E-REPLAY", f"the policy {digest} was not kept", remedy="name it by --under, if there is a copy")
    policy = decode_policy(body)
    if policy.digest != digest:
        raise IntegrityError("E-REPLAY", f"what was kept as the policy {digest} is another one, {policy.digest}")
    return policy
