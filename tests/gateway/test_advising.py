"""Advice about judgements that no site makes by itself: a defect in the search, a built-in rule that holds."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from carnet.decision import Gate, Outcome
from carnet.identifiers import Digest
from carnet.policy import Assurance, Fact, combine, evaluate, parse_policy
from carnet.trust import home_lane
from gateway.advising import advise
from gateway.deciding import Judgement
from tests.carnet.message_samples import declare_request
from tests.carnet.policy.policies import ALLOW_ALL, rule, source
from tests.carnet.samples import EU, US, bundle

NOW = datetime(2026, 12, 1, 10, tzinfo=UTC)
DAY = date(2026, 12, 1)
POLICY = combine([parse_policy(source(ALLOW_ALL, rule("at: [receipt], unless: {purpose: deploy}, effect: hold")), "test.yaml")])


class Unreadable:
    """No matcher at all."""

    def __repr__(self) -> str:
        raise RuntimeError("a defect")


def judged(**facts: str) -> Judgement:
    known = {name: Fact(value, Assurance.DECLARED, "tests") for name, value in facts.items()}
    decision = evaluate(POLICY, Gate.RECEIPT, known, DAY)
    return Judgement(Gate.RECEIPT, decision, Digest.of(b"facts"), known, DAY, 1, decision.outcome)


def advised(judgement: Judgement):
    return advise([judgement], POLICY, bundle(), home_lane(US), declare_request(destinations=(EU,)), NOW)


def test_within_the_site_receipt_is_asked_and_no_key_leaves():
    advice = advised(judged())

    assert (advice.gate, advice.release, advice.prospect) == ("receipt", None, "listed")
    assert [(one.what, one.gate) for one in advice.missing] == [("purpose", "receipt")]


def test_a_defect_in_the_search_is_told_as_unknown_and_stops_nothing():
    broken = judged()
    results = tuple(
        one._replace(inputs=tuple(read._replace(matcher=Unreadable()) for read in one.inputs)) for one in broken.decision.results
    )

    advice = advised(replace(broken, decision=replace(broken.decision, results=results)))

    assert (advice.outcome, advice.prospect, advice.missing) == ("hold", "unknown", ())


def test_what_a_built_in_rule_holds_nothing_missing_turns():
    advice = advised(judged(purpose="deploy").overruled(Outcome.HOLD, "policy-unsigned", "nobody signed it", "have it signed"))

    assert (advice.outcome, advice.prospect, advice.missing) == ("hold", "closed", ())
    assert [one.rule for one in advice.reasons] == ["policy-unsigned"]


def test_advice_ends_with_what_it_rests_on_if_that_is_sooner():
    soon = NOW + timedelta(hours=1)

    assert advised(judged()).until == "2026-12-02T10:00:00Z"
    assert advised(replace(judged(), until=soon)).until == "2026-12-01T11:00:00Z"
    assert advised(replace(judged(), until=NOW + timedelta(days=9))).until == "2026-12-02T10:00:00Z"


def test_advice_that_nobody_has_time_to_look_for_says_so_and_is_the_same_otherwise():
    judgement = judged()
    asked = (POLICY, bundle(), home_lane(US), declare_request(destinations=(EU,)), NOW)

    looked, quick = advise([judgement], *asked), advise([judgement], *asked, looks=False)

    assert (quick.prospect, quick.missing) == ("unknown", ())
    assert looked.prospect != "unknown"
    assert quick.model_copy(update={"prospect": looked.prospect, "missing": looked.missing}) == looked
