"""The base rule after the commit: nothing is let go that was sealed upon an artifact that was recalled meanwhile.

What was delivered before its base was recalled stays, with the segments it shares: whoever has it could open those already.
"""

from carnet.decision import Outcome
from carnet.errors import PeerError
from carnet.identifiers import SiteName, TransferId
from gateway import documents
from gateway.deciding import Judgement
from gateway.ports import Transaction

_REMEDY = "push it again with --fresh: it is then sealed without that base"


def judge_recalled_bases(tx: Transaction, judgement: Judgement, transfer: TransferId, destination: SiteName) -> Judgement:
    """Hold what is sealed upon a base that was recalled here or, as far as is known here, at the destination."""
    recalled = _recalled_base(tx, transfer, destination)
    if recalled is None:
        return judgement
    return judgement.overruled(Outcome.HOLD, "base", f"it is sealed upon {recalled}, which was recalled", _REMEDY)


def require_no_recalled_base(tx: Transaction, transfer: TransferId, destination: SiteName) -> None:
    """Raise `PeerError` E-BASE if the transfer is sealed upon a base that was recalled here."""
    recalled = _recalled_base(tx, transfer, destination)
    if recalled is not None:
        problem = f"transfer {transfer} is sealed upon {recalled}, which was recalled at {destination}"
        raise PeerError("E-BASE", problem, remedy=_REMEDY)


def _recalled_base(tx: Transaction, transfer: TransferId, destination: SiteName) -> str | None:
    """Return the name of a base that was recalled, or None."""
    for digest in documents.read_packing(tx, transfer).bases:
        base = tx.transfer_of_packing(digest)
        if base is None:
            continue
        states = {base.state, *(one.state for one in tx.deliveries(base.id) if one.destination == destination)}
        if "recalled" in states:
            return f"{base.repository}:{base.tag}"
    return None
