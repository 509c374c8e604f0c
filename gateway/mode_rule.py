"""The mode rule: what was sealed while its lane had one mode is not let go once the trust bundle gives the lane another."""

from carnet.decision import Outcome
from carnet.errors import IntegrityError
from carnet.lane_mode import require_mode
from carnet.trust import TrustBundle
from gateway import documents
from gateway.deciding import Judgement
from gateway.ports import Transaction
from gateway.records import TransferRecord


def judge_mode(tx: Transaction, bundle: TrustBundle, judgement: Judgement, record: TransferRecord) -> Judgement:
    """Deny a delivery whose packing list goes to other sites than the lane's mode in `bundle` asks for."""
    try:
        require_mode(documents.read_packing(tx, record.id), bundle.lane(record.lane, record.origin), record.destinations)
    except IntegrityError as error:
        return judgement.overruled(
            Outcome.DENY, "lane-mode", error.problem, "push it again: it is then sealed for the mode of now"
        )
    return judgement
