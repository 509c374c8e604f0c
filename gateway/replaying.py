"""Makes the decisions about a transfer again, from what this site kept of them.

Rules:      1. nothing is changed  2. what was not kept, or cannot be read, is said and is never taken for the same
Spec:       docs/policy.md section "Replay"
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from carnet.decision import Gate
from carnet.encoding import JsonValue
from carnet.entries import CommittedEntry, check_opening, parse_entry
from carnet.errors import IntegrityError, NotFound, PeerError
from carnet.identifiers import Digest, TransferId
from carnet.policy import Policy, PolicyDecision
from carnet.policy.replay import DecisionInputs, decode_policy, replay, said_digest
from carnet.statement import parse_model
from gateway.documents import DECISION_INPUTS, decision_index_name
from gateway.policy_record import KEPT
from gateway.ports import Transaction

EntryAt: TypeAlias = Callable[[int], CommittedEntry | None]


@dataclass(frozen=True)
class Replayed:
    """One decision made again: what it was, and what it is now."""

    party: str
    inputs: DecisionInputs
    decision: PolicyDecision
    is_committed: bool
    """Whether the decision's entry in the log commits to what was kept."""

    @property
    def is_same(self) -> bool:
        """Whether every word of it is as it was, and what it was made of is what the log commits to."""
        return self.is_committed and said_digest(self.decision) == self.inputs.said

    def lines(self) -> list[str]:
        """Return it for people: as it was, or what decided then and now."""
        was, now = self.inputs, self.decision
        head = f"{was.gate.value} for {self.party} on {was.on or 'a day that was not kept'}"
        if not self.is_committed:
            return [f"{head}: the log does not commit to what was kept of it: NOT THE SAME"]
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
            "committed": self.is_committed,
            "same": self.is_same,
        }


def replay_transfer(tx: Transaction, entry_at: EntryAt, transfer: TransferId, policy: Policy | None) -> list[Replayed]:
    """Return each decision about `transfer` made again, under the policy of then or under `policy`.

    `entry_at` gives the entry of this site's log at an index, with its openings.

    Raises `NotFound` E-TRANSFER-UNKNOWN if nothing was kept of it, and E-REPLAY if the policy of then was not kept.
    """
    kept = tx.documents(transfer, DECISION_INPUTS)
    if not kept:
        raise NotFound("E-TRANSFER-UNKNOWN", f"nothing was kept of decisions about the transfer {transfer}")
    found = []
    for name, body in sorted(kept.items()):
        inputs = parse_model(DecisionInputs, body)
        asked = _policy_of_then(tx, inputs.policy) if policy is None else policy
        party = name.removeprefix(DECISION_INPUTS).partition("/")[2]
        is_committed = _is_committed(tx, entry_at, transfer, inputs.gate, party, body)
        found.append(Replayed(party, inputs, replay(inputs, asked), is_committed))
    return found


def _is_committed(tx: Transaction, entry_at: EntryAt, transfer: TransferId, gate: Gate, party: str, body: bytes) -> bool:
    """Tell whether the entry of the decision commits to `body`; `log verify` tells whether the log has that entry."""
    index = tx.document(transfer, decision_index_name(gate, party))
    entry = None if index is None else entry_at(int(index))
    opening = None if entry is None else entry.openings.get("inputs")
    if entry is None or opening is None:
        return False
    try:
        check_opening(parse_entry(entry.entry), "inputs", opening.salt, Digest.of(body))
    except (IntegrityError, PeerError):
        return False
    return True


def _policy_of_then(tx: Transaction, digest: Digest) -> Policy:
    body = tx.site_document(KEPT + digest)
    if body is None:
        raise NotFound("E-REPLAY", f"the policy {digest} was not kept", remedy="name it by --under, if there is a copy")
    policy = decode_policy(body)
    if policy.digest != digest:
        raise IntegrityError("E-REPLAY", f"what was kept as the policy {digest} is another one, {policy.digest}")
    return policy
