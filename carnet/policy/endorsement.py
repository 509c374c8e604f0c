"""The endorsement: the word of a policy's owners that this is the policy, by the digest of what it says.

All owners sign the same bytes, so their signatures stand in one envelope; a changed rule, or a changed group that a rule names,
is another digest, and nobody has signed it.

Spec:       docs/statements.md section "Policy endorsement"
"""

from typing import ClassVar

from carnet.identifiers import Digest
from carnet.statement import Statement


class PolicyEndorsement(Statement):
    """One policy, named by its digest."""

    payload_type: ClassVar[str] = "application/vnd.carnet.policy-endorsement.v1+json"

    policy: Digest
