"""Policy counts once two of its owners signed it: whoever can write the policy files alone does not change the rules.

The trust bundle names the owners; one that names none asks for no signature. The signatures lie beside the policy files, over the
digest of what the files say, so any change of a rule or of a group that a rule names makes them void.

Rules:      1. two different owners, by keys that are not revoked, whatever else somebody signed
            2. a policy that lacks them never replaces one that has them, and by itself decides nothing but to hold
Spec:       docs/policy.md section "Owners"; docs/statements.md section "Policy endorsement"; DESIGN section 8
"""

from collections.abc import Collection
from typing import Final

from carnet.envelope import Envelope
from carnet.errors import CallerError, CarnetError
from carnet.identifiers import Digest
from carnet.policy import Policy
from carnet.policy.endorsement import PolicyEndorsement
from carnet.signers import signers
from carnet.trust import TrustBundle

OWNERS_NEEDED: Final = 2


def endorsers(policy: Digest, signed: Envelope | None, bundle: TrustBundle, revoked: Collection[str]) -> tuple[str, ...]:
    """Return the owners who signed the policy of this digest; nobody if the signatures are wrong, or about another one."""
    if signed is None:
        return ()
    try:
        if PolicyEndorsement.read_unverified(signed).policy != policy:
            return ()
        people = signers(signed, PolicyEndorsement.payload_type, bundle, revoked=revoked)
    except CarnetError:
        return ()
    return tuple(person.name for person in people if person.name in bundle.policy_owners)


def lacking(policy: Digest, signed: Envelope | None, bundle: TrustBundle, revoked: Collection[str]) -> str | None:
    """Return what the policy lacks, or None if it counts."""
    if not bundle.policy_owners:
        return None
    found = endorsers(policy, signed, bundle, revoked)
    if len(found) >= OWNERS_NEEDED:
        return None
    by = f"signed by {', '.join(found)} alone" if found else "signed by none of them"
    return f"the policy {policy} needs two of its owners ({', '.join(bundle.policy_owners)}) and is {by}"


def require_endorsed(policy: Policy, signed: Envelope | None, bundle: TrustBundle, revoked: Collection[str]) -> None:
    """Return if the policy counts; raise `CallerError` E-POLICY saying what it lacks."""
    problem = lacking(policy.digest, signed, bundle, revoked)
    if problem is not None:
        raise CallerError("E-POLICY", problem, remedy="have it signed: carnet-gateway policy sign DIRECTORY --key KEY")
