"""Released under: the authorisation groups under which a key went to somebody, and whether one of them has ended since.

What counts is the last decision that let the key go: a later one that did not is about no release, and changes nothing here.
"""

from typing import Final

from carnet.decision import Decision, Gate, Outcome
from carnet.identifiers import SiteName, TransferId
from carnet.policy import Assurance, Fact, Facts
from carnet.policy.replay import DecisionInputs
from carnet.statement import parse_model
from gateway import documents
from gateway.ports import Transaction

FACT: Final = "recipient.groups_expired"
_GROUPS: Final = "recipient.groups"


def keep_groups(tx: Transaction, transfer: TransferId, party: str, known: Facts, inputs: bytes) -> None:
    """Put down what a decision that lets the key go to `party` was made of, if there are groups in it."""
    name = documents.released_under_name(party)
    if _groups(known):
        tx.put_document(transfer, name, inputs)
    else:
        tx.delete_document(transfer, name)


def groups_expired(tx: Transaction, site: SiteName, transfer: TransferId, facts: Facts) -> Fact | None:
    """Return the fact whether who gets the key lacks a group of today that it was released under; None if nobody here knows.

    Nothing was released under a group to whom nothing was released at all.
    """
    kind, identity, destination = (facts.get(name) for name in ("recipient.kind", "recipient.identity", "destination.site"))
    if kind is None or identity is None or destination is None:
        return None
    to_site = kind.value == "gateway"
    party = str(destination.value if to_site else identity.value)
    record = tx.transfer(transfer)
    if to_site and party == site and record is not None and record.role == "destination":
        return None  # the origin let that key go, and keeps what it asked
    expired = bool(_released_under(tx, transfer, party) - _groups(facts))
    return Fact(expired, Assurance.DERIVED, "this site")


def _released_under(tx: Transaction, transfer: TransferId, party: str) -> frozenset[str]:
    body = tx.document(transfer, documents.released_under_name(party))
    if body is None:
        decision = tx.document(transfer, documents.decision_name(Gate.RELEASE, party))
        body = tx.document(transfer, documents.decision_inputs_name(Gate.RELEASE, party))
        if decision is None or body is None:
            return frozenset()
        if Decision.read_unverified(documents.read_envelope(decision)).outcome is not Outcome.ALLOW:
            return frozenset()
    return _groups(parse_model(DecisionInputs, body).known)


def _groups(facts: Facts) -> frozenset[str]:
    fact = facts.get(_GROUPS)
    return frozenset(fact.value) if fact is not None and isinstance(fact.value, tuple) else frozenset()
