"""Signers: which people of the trust bundle signed a document that people issue, such as a licence.

Rules:      1. a revoked key signs nothing  2. a person counts once, whatever keys they signed with
            3. a key id is a hint: only people whose key is named are tried, and a wrong signature of theirs spoils the document
Spec:       docs/statements.md section "What people issue"
"""

from collections.abc import Collection

from carnet.envelope import Envelope, verify
from carnet.errors import IntegrityError
from carnet.trust import Person, TrustBundle


def signers(
    envelope: Envelope, payload_type: str, bundle: TrustBundle, *, revoked: Collection[str] = frozenset()
) -> tuple[Person, ...]:
    """Return everyone of `bundle` who signed `envelope`, by name; `revoked` are key ids.

    Raises:
        PeerError: E-FORMAT for another payload type. IntegrityError: E-SIGNATURE if nobody did, or a signature is wrong.
    """
    named = {one.keyid for one in envelope.signatures}
    keys = {
        key.keyid: (key, person)
        for person in bundle.people
        for key in person.keys
        if key.keyid in named and key.keyid not in revoked
    }
    if not keys:
        raise IntegrityError("E-SIGNATURE", f"no person of trust bundle {bundle.version} signed this {payload_type}")
    signed = verify(envelope, payload_type=payload_type, keys=[key for key, _ in keys.values()])
    found = {keys[keyid][1].name: keys[keyid][1] for keyid in signed}
    return tuple(found[name] for name in sorted(found))
