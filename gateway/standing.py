"""Standing: whether what was decided still stands, by the rules at `recheck`, which only tighten.

Rules:      1. the stricter of what a gate says and what `recheck` says counts, with its reasons
            2. a fact that is missing stops pulls and takes nothing back: only a rule that applied does, of a policy that its
               owners signed where they have to
Spec:       docs/policy.md section "Recheck"; docs/decisions/0032-a-recheck-takes-back-by-rules-that-applied.md
"""

from dataclasses import replace
from typing import Final

from carnet.decision import Gate, Outcome, strictest
from carnet.identifiers import SiteName, SpiffeId
from carnet.messages import ReasonView
from carnet.policy.evaluation import Verdict
from carnet.receipt import ReceiptKind
from carnet.trust import TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.deciding import Judgement, judge_waybill
from gateway.endorsing import lacking
from gateway.ports import Transaction
from gateway.records import TransferRecord
from gateway.services import Services

READABLE: Final = frozenset({"delivered", "admitted"})
"""States in which a transfer is read by whom its key was given: delivered, as a destination or at home."""
_PUT_AWAY: Final = frozenset({"quarantined", "inspecting", "held"})


def is_put_away(tx: Transaction, services: Services, record: TransferRecord) -> bool:
    """Tell whether what was delivered here was put away since, be it that somebody asked for it back already."""
    if record.role != "destination" or record.state not in _PUT_AWAY:
        return False
    return tx.document(record.id, documents.receipt_name(ReceiptKind.DELIVERED, services.site)) is not None


def judge_recheck(tx: Transaction, services: Services, bundle: TrustBundle, waybill: Waybill, destination: SiteName) -> Judgement:
    """Return what the rules at `recheck` say today about what was delivered to `destination`."""
    return judge_waybill(tx, services, bundle, Gate.RECHECK, waybill, destination=destination)


def judge_pull_again(
    tx: Transaction, services: Services, bundle: TrustBundle, judgement: Judgement, waybill: Waybill, consumer: SpiffeId
) -> Judgement:
    """Return the judgement about a pull, or what `recheck` says about it if that is stricter (rule 1)."""
    now = judge_waybill(tx, services, bundle, Gate.RECHECK, waybill, destination=services.site, consumer=consumer)
    return _tightened(judgement, now.outcome, now.views)


def judge_return(tx: Transaction, services: Services, bundle: TrustBundle, judgement: Judgement, waybill: Waybill) -> Judgement:
    """Return the judgement at `receipt` about what a recheck decided about before: it comes back only if both gates let it.

    A denial for what is missing, at either gate, leaves it locked: at `receipt` a denial destroys the key (rule 2).
    """
    if tx.document(waybill.transfer, documents.decision_name(Gate.RECHECK, services.site)) is None:
        return judgement
    judgement = _locked(services, bundle, judgement)
    now = _locked(services, bundle, judge_recheck(tx, services, bundle, waybill, services.site))
    return _tightened(judgement, now.outcome, now.views)


def _locked(services: Services, bundle: TrustBundle, judgement: Judgement) -> Judgement:
    """Return the judgement with a quarantine in the place of a denial that rests on no rule that applied."""
    if judgement.outcome is not Outcome.DENY or judgement.extra or consequence(services, bundle, judgement) is Outcome.DENY:
        return judgement
    views = tuple(view.model_copy(update={"outcome": Outcome.QUARANTINE.value}) for view in judgement.views)
    return replace(judgement, outcome=Outcome.QUARANTINE, extra=views)


def consequence(services: Services, bundle: TrustBundle, judgement: Judgement) -> Outcome:
    """Return what becomes of what was delivered: `quarantine` and `deny` take it back, anything else leaves it (rule 2)."""
    if judgement.outcome not in (Outcome.QUARANTINE, Outcome.DENY):
        return judgement.outcome
    revoked = services.trust.revocations.state.revoked_keys(bundle)
    if lacking(judgement.policy, services.policies.signatures, bundle, revoked) is not None:
        return Outcome.HOLD
    applied = (result for result in judgement.decision.results if result.verdict is Verdict.APPLIED)
    return strictest((Outcome.HOLD, *(result.contribution for result in applied if result.contribution is not None)))


def _tightened(judgement: Judgement, outcome: Outcome, views: tuple[ReasonView, ...]) -> Judgement:
    """Return the judgement under the stricter outcome; a hold that approvals would satisfy gives way to one that they do not."""
    would_pass = outcome is judgement.outcome is Outcome.HOLD and (judgement.asks or judgement.is_open)
    if outcome.strictness <= judgement.outcome.strictness and not would_pass:
        return judgement
    return replace(judgement, outcome=outcome, extra=views, asks=False, stands=False)
