"""Standing: whether what was decided still stands, by the rules at `recheck`, which only tighten.

Rules:      1. the stricter of what a gate says and what `recheck` says counts, with its reasons
            2. a fact that is missing stops pulls and takes nothing back: only a rule that applied does, of a policy that its
               owners signed where they have to
Spec:       docs/policy.md section "Recheck"; docs/decisions/0032-a-recheck-takes-back-by-rules-that-applied.md
"""

from dataclasses import replace

from carnet.decision import Gate, Outcome, strictest
from carnet.identifiers import SiteName, SpiffeId
from carnet.messages import ReasonView
from carnet.policy.evaluation import Verdict
from carnet.trust import TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.deciding import Judgement, judge_waybill
from gateway.endorsing import lacking
from gateway.ports import Transaction
from gateway.services import Services


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

    A denial for what is missing leaves it locked: at `receipt` a denial destroys the key (rule 2).
    """
    if tx.document(waybill.transfer, documents.decision_name(Gate.RECHECK, services.site)) is None:
        return judgement
    now = judge_recheck(tx, services, bundle, waybill, services.site)
    outcome, views = now.outcome, now.views
    if outcome is Outcome.DENY and consequence(services, bundle, now) is not Outcome.DENY:
        outcome = Outcome.QUARANTINE
        views = tuple(view.model_copy(update={"outcome": outcome.value}) for view in views)
    return _tightened(judgement, outcome, views)


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
