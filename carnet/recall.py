"""The recall: a site's signed word that a transfer is withdrawn; it can only take away.

A site sends one when an artifact is recalled, and when a transfer it had begun to send is denied, expires or is cancelled. Who
receives it stops pulls, destroys the key, deletes what nothing else needs, and answers with a `deleted` receipt that names it.

Rules:      1. the recalling site's key, from the trust bundle, signed recall and checkpoint  2. the log entry commits to this
            very recall: it was logged before it was sent  3. it is about one transfer, by the digests of waybill, packing list
            and artifact  4. it is obeyed whatever policy says: nothing is given away by obeying
Spec:       docs/statements.md section "Recall"; docs/protocol.md section "Withdrawal"; DESIGN section 7
Example:    >>> RecallCause("expired").value
            'expired'
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from carnet.checkpoint import log_origin
from carnet.entries import EntryType
from carnet.envelope import Envelope
from carnet.errors import IntegrityError
from carnet.identifiers import Digest, SiteName, SpiffeId, TransferId
from carnet.limits import DESTINATIONS_MAX
from carnet.proof import EntryProof, verify_entry_proof
from carnet.statement import Statement, Text, Unique
from carnet.timestamps import Timestamp
from carnet.trust import Site


class RecallCause(StrEnum):
    """Why something that had begun to cross is taken back."""

    RECALLED = "recalled"
    CANCELLED = "cancelled"
    DENIED = "denied"
    EXPIRED = "expired"


class Recall(Statement):
    """What is withdrawn, why, by whom, and whom `site` tells."""

    payload_type: ClassVar[str] = "application/vnd.carnet.recall.v1+json"

    site: SiteName
    transfer: TransferId
    waybill: Digest
    packing: Digest
    artifact: Digest
    cause: RecallCause
    reason: Text
    by: SpiffeId
    """Who asked for it: a person or an agent of the site, or the site itself."""
    tell: Annotated[tuple[SiteName, ...], Field(max_length=DESTINATIONS_MAX), Unique]
    at: Timestamp

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.by.site != self.site:
            raise ValueError("a site recalls on behalf of its own identities only")
        if self.site in self.tell:
            raise ValueError("a site does not tell itself")
        return self


def verify_recall(envelope: Envelope, proof: EntryProof, *, site: Site, trust_domain: str) -> Recall:
    """Return the recall in `envelope` after rules 1 and 2; what it is about is the caller's to compare (rule 3).

    Raises:
        IntegrityError: E-SIGNATURE for a signature or another signer, E-PROOF for the log.
        PeerError: E-FORMAT for malformed documents.
    """
    recall = Recall.open(envelope, [site.signing_key])  # (1)
    if recall.site != site.name or recall.by.trust_domain != trust_domain:
        raise IntegrityError("E-SIGNATURE", f"a recall in the name of {recall.by} is signed by {site.name}")
    entry = verify_entry_proof(proof, log_origin=log_origin(trust_domain, site.name), key=site.signing_key)
    entry.require(EntryType.TRANSFER_RECALLED, {"recall": str(recall.digest), "transfer": str(recall.transfer)})  # (2)
    return recall
