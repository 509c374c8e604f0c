"""Writes every change of the policy in force into the log, the policy at start included (P5), and keeps each for replay."""

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.policy.replay import encode_policy
from gateway.endorsing import endorsers
from gateway.ports import Transaction
from gateway.services import Services

_NAME = "policy/current"
KEPT = "policy/kept/"
"""Before the digest: the names under which policies are kept."""


async def record_policy(services: Services) -> bool:
    """Keep the policy in force, and log its digest if it is not the one logged last; tell whether it changed."""
    policy = services.policies.policy
    digest = policy.digest
    bundle = services.trust.current()
    signed: list[JsonValue] = []
    if bundle is not None:
        revoked = services.trust.revocations.state.revoked_keys(bundle)
        signed = list(endorsers(digest, services.policies.signatures, bundle, revoked))

    def change(tx: Transaction) -> bool:
        if tx.site_document(KEPT + digest) is None:
            tx.put_site_document(KEPT + digest, encode_policy(policy))
        known = tx.site_document(_NAME)
        if known == digest.encode("ascii"):
            return False
        tx.put_site_document(_NAME, digest.encode("ascii"))
        before = None if known is None else known.decode("ascii")
        tx.append(EntryType.POLICY_CHANGED, {"policy": digest, "before": before, "signed": signed})
        return True

    return await services.catalog.write(change)
