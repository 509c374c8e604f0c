"""No onward sending: which artifacts came here on the terms that they go to no other site, told by their digest.

It outlives the artifact: what was deleted here, and comes back from a pull or a build, is the same artifact still.

Spec:       docs/policy.md section "Obligations"
"""

from typing import Final

from carnet.identifiers import Digest, SiteName, TransferId
from gateway.ports import Transaction

_ONWARD: Final = "no-onward/"
REMEDY: Final = "ask its origin to send it there"


def forbid_onward(tx: Transaction, artifact: Digest, transfer: TransferId) -> None:
    """Let the artifact go no further from here, by the terms of `transfer`."""
    tx.put_site_document(_ONWARD + artifact, transfer.encode("ascii"))


def onward_problem(tx: Transaction, artifact: str | None, destination: SiteName) -> str | None:
    """Return why the artifact may not go on to `destination`, or None if nothing forbids it."""
    if artifact is None or tx.site_document(_ONWARD + artifact) is None:
        return None
    # With which transfer, and whose, is not told: who sends it may have nothing to do with that.
    return f"it came here on the terms that it goes to no other site, such as {destination}"
