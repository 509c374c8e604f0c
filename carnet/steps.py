"""Checks a step that another party took: its signed decision, and the proof that the decision is in that party's log.

A destination runs this before it takes segments (`offer`) and before it unwraps a key (`release`); a consumer before it uses
the key its site released; the origin when a destination tells what it decided. Nobody acts on a decision that is not logged.

Rules:      1. the deciding site's key, from the trust bundle, signed decision and checkpoint  2. the log entry commits to this
            very decision  3. the decision is about this transfer, waybill, packing list and party  4. a decision that allows
            is acted upon before it expires; a refusal is learned whenever it comes
Spec:       docs/protocol.md section "Signed steps"; DESIGN promises P1 and P5
Example:    >>> ENTRY_OF_GATE[Gate.OFFER].value
            'decision-offer'
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from carnet.checkpoint import log_origin
from carnet.decision import Decision, Gate, Outcome
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import IntegrityError
from carnet.identifiers import Digest, SiteName, SpiffeId, TransferId
from carnet.messages import SignedStep
from carnet.proof import verify_entry_proof
from carnet.timestamps import parse_time
from carnet.trust import Site

ENTRY_OF_GATE: Final = {
    Gate.OFFER: EntryType.DECISION_OFFER,
    Gate.RELEASE: EntryType.DECISION_RELEASE,
    Gate.RECEIPT: EntryType.DECISION_RECEIPT,
    Gate.RECHECK: EntryType.DECISION_RECHECK,
}
"""The log entry that records a decision at each gate."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the decision must be about; `recipient_key` is the digest of the key released to, at the `release` gate."""

    gate: Gate
    transfer: TransferId
    waybill: Digest
    packing: Digest
    destination: SiteName | None = None
    consumer: SpiffeId | None = None
    recipient_key: str | None = None


def verify_step(step: SignedStep, *, site: Site, trust_domain: str, expected: Expected) -> Decision:
    """Return the decision in `step` after rules 1 to 3; its outcome is the caller's to judge.

    Raises:
        IntegrityError: E-SIGNATURE for a signature, E-PROOF for the log, E-DECISION if it is about something else.
        PeerError: E-FORMAT for malformed documents.
    """
    decision = Decision.open(parse_envelope(step.decision), [site.signing_key])  # (1)
    entry = verify_entry_proof(step.proof, log_origin=log_origin(trust_domain, site.name), key=site.signing_key)
    entry.require(ENTRY_OF_GATE[expected.gate], {"decision": str(decision.digest), "transfer": str(expected.transfer)})  # (2)
    _check_subject(decision, site, expected)  # (3)
    return decision


def require_allow(decision: Decision, now: datetime) -> None:
    """Raise `IntegrityError` E-DECISION unless the decision allows and has not expired (rule 4)."""
    if parse_time(decision.not_after) <= now:
        raise IntegrityError("E-DECISION", f"the {decision.gate} decision of {decision.site} expired at {decision.not_after}")
    if decision.outcome is not Outcome.ALLOW:
        raise IntegrityError("E-DECISION", f"the {decision.gate} decision of {decision.site} is {decision.outcome}, not allow")


def _check_subject(decision: Decision, site: Site, expected: Expected) -> None:
    about = {
        "gate": (decision.gate, expected.gate),
        "site": (decision.site, site.name),
        "transfer": (decision.transfer, expected.transfer),
        "waybill": (decision.waybill, expected.waybill),
        "packing list": (decision.packing, expected.packing),
        "destination": (decision.destination, expected.destination),
        "consumer": (decision.consumer, expected.consumer),
        "recipient key": (decision.recipient_key, expected.recipient_key),
    }
    for name, (found, wanted) in about.items():
        if found != wanted:
            raise IntegrityError("E-DECISION", f"the decision of {site.name} is about {name} {found}, expected {wanted}")
