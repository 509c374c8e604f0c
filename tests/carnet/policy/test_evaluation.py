import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError
from carnet.policy import combine, evaluate, parse_policy
from carnet.policy.evaluation import Verdict
from tests.carnet.policy.policies import ALLOW_ALL, facts, policy, rule, source


def outcome(*rules: str, gate: Gate = Gate.OFFER, defaults: str = "", **known: object) -> Outcome:
    return evaluate(policy(*rules, defaults=defaults), gate, facts(**known)).outcome


def test_without_a_rule_that_allows_the_outcome_is_deny():
    decision = evaluate(policy(rule("when: {artifact.kind: patch}")), Gate.OFFER, facts(artifact__kind="image"))

    assert decision.outcome is Outcome.DENY
    (deciding,) = decision.deciding
    assert (deciding.rule, deciding.reason) == ("no-permit", "no rule permits this at offer")
    assert "r1" in deciding.remedy


def test_a_gate_that_no_rule_names_denies():
    assert outcome(rule("at: [offer]"), gate=Gate.RECEIPT) is Outcome.DENY
    assert outcome(ALLOW_ALL, gate=Gate.RECHECK) is Outcome.DENY


@pytest.mark.parametrize(
    ("effect", "expected"), [("allow", "allow"), ("hold", "hold"), ("quarantine", "quarantine"), ("deny", "deny")]
)
def test_the_strictest_applying_rule_wins(effect, expected):
    assert outcome(ALLOW_ALL, rule(f"effect: {effect}")).value == expected


@pytest.mark.parametrize(
    ("rules", "satisfiable"),
    [
        (["effect: hold, approvals: [{role: legal}]"], True),
        (["id: a, effect: hold, approvals: [{role: legal}]", "id: b, effect: hold, approvals: [{role: security}]"], True),
        (["id: a, effect: hold, approvals: [{role: legal}]", "id: b, effect: hold"], False),
        (["effect: hold, approvals: [{role: legal}], when: {purpose: x}"], False),
        (["id: a, effect: hold, approvals: [{role: legal}]", "id: b, effect: deny"], False),
        ([], False),
    ],
    ids=["one", "two", "one-asks-nobody", "fact-missing", "denied", "allowed"],
)
def test_a_hold_is_satisfiable_if_every_rule_that_holds_names_approvals(rules, satisfiable):
    decision = evaluate(policy(ALLOW_ALL, *map(rule, rules)), Gate.OFFER, facts(artifact__kind="image"))

    assert decision.is_satisfiable is satisfiable


def test_a_hold_alone_does_not_permit():
    assert outcome(rule("effect: hold")) is Outcome.DENY


def test_a_missing_fact_holds_and_is_named():
    decision = evaluate(
        policy(ALLOW_ALL, rule("effect: deny, when: {export.number: 5D002}")), Gate.OFFER, facts(artifact__kind="image")
    )

    assert decision.outcome is Outcome.HOLD
    assert [(result.rule, result.verdict) for result in decision.deciding] == [("r1", Verdict.FACT_MISSING)]


def test_a_missing_fact_of_the_only_rule_that_allows_holds():
    assert outcome(rule("when: {purpose: deploy}")) is Outcome.HOLD


def test_a_denial_that_needs_nothing_missing_wins_over_a_missing_fact():
    assert (
        outcome(
            ALLOW_ALL,
            rule("effect: hold, when: {purpose: x}"),
            rule("id: d, effect: deny, when: {artifact.kind: image}"),
            artifact__kind="image",
        )
        is Outcome.DENY
    )


def test_a_condition_that_is_known_to_fail_needs_nothing_else():
    assert (
        outcome(ALLOW_ALL, rule("effect: deny, when: {artifact.kind: patch, export.number: X}"), artifact__kind="image")
        is Outcome.ALLOW
    )


def test_presence_can_be_asked_without_a_hold():
    rules = (ALLOW_ALL, rule("effect: deny, when: {export.number: {present: true}}"))

    assert outcome(*rules) is Outcome.ALLOW
    assert outcome(*rules, export__number="5D002") is Outcome.DENY


def test_a_policy_may_deny_where_others_hold_on_missing_facts():
    assert outcome(ALLOW_ALL, rule("effect: hold, when: {purpose: x}"), defaults="{on_error: deny}") is Outcome.DENY


def test_unless_exempts_only_when_all_of_it_holds():
    denial = rule("effect: deny, unless: {purpose: test, artifact.kind: patch}")

    assert outcome(ALLOW_ALL, denial, purpose="test", artifact__kind="patch") is Outcome.ALLOW
    assert outcome(ALLOW_ALL, denial, purpose="test", artifact__kind="image") is Outcome.DENY
    assert outcome(ALLOW_ALL, denial, purpose="test") is Outcome.HOLD
    assert outcome(ALLOW_ALL, denial, purpose="deploy") is Outcome.DENY


def test_a_missing_exemption_of_a_permission_holds():
    assert outcome(rule("unless: {purpose: test}")) is Outcome.HOLD


def test_a_fact_of_an_unexpected_type_holds():
    known = facts(artifact__size=5)
    known["artifact.kind"] = known.pop("artifact.size")

    decision = evaluate(policy(ALLOW_ALL, rule("effect: deny, when: {artifact.kind: patch}")), Gate.OFFER, known)

    assert decision.outcome is Outcome.HOLD
    assert decision.deciding[0].verdict is Verdict.ERROR


def test_every_rule_of_the_gate_has_a_result():
    decision = evaluate(
        policy(ALLOW_ALL, rule("when: {purpose: x}"), rule("id: other, at: [release]")), Gate.OFFER, facts(purpose="y")
    )

    assert [(result.rule, result.verdict) for result in decision.results] == [
        ("all", Verdict.APPLIED),
        ("r1", Verdict.NOT_APPLIED),
    ]


def test_obligations_of_all_applying_rules_are_united_and_the_largest_count_of_approvals_stands():
    retain = "{kind: retain, parameters: {years: 10}}"
    decision = evaluate(
        policy(
            ALLOW_ALL.replace("effect", f"obligations: [{retain}], effect"),
            rule(
                "id: a, effect: hold, approvals: [{role: legal, count: 1}, {role: security}], "
                f"obligations: [{retain}, {{kind: no-onward}}]"
            ),
            rule("id: b, effect: hold, approvals: [{role: legal, count: 2}]"),
            rule("id: c, effect: hold, when: {purpose: x}, approvals: [{role: never}]"),
        ),
        Gate.OFFER,
        facts(purpose="y"),
    )

    assert [(need.role, need.count) for need in decision.approvals] == [("legal", 2), ("security", 1)]
    assert [obligation.kind for obligation in decision.obligations] == ["no-onward", "retain"]


def test_the_digest_names_what_the_policy_says_and_not_how_it_is_written():
    plain = policy(ALLOW_ALL)
    commented = combine(
        [parse_policy("# why\n" + source("{reason: tests, effect: allow, id: all, at: [offer, release, receipt]}"), "x.yaml")]
    )

    assert plain.digest == commented.digest
    assert plain.digest != policy(ALLOW_ALL, rule("")).digest


def test_two_files_may_not_share_an_id_and_no_file_is_no_policy():
    file = parse_policy(source(ALLOW_ALL), "x.yaml")

    with pytest.raises(CallerError, match="policy id test stands twice"):
        combine([file, file])
    with pytest.raises(CallerError, match="no policy file"):
        combine([])


CONDITIONS = [
    "",
    "artifact.kind: image",
    "artifact.kind: patch",
    "purpose: x",
    "artifact.size: {min: 5}",
    "export.number: {present: true}",
    "data.categories: [health]",
]
conditions = st.lists(st.sampled_from(CONDITIONS[1:]), max_size=2, unique_by=lambda text: text.split(":")[0]).map(", ".join)
effects = st.sampled_from(["allow", "hold", "quarantine", "deny"])
bodies = st.lists(st.tuples(effects, conditions, conditions), min_size=1, max_size=5)
known = st.fixed_dictionaries(
    {},
    optional={
        "artifact__kind": st.sampled_from(["image", "patch"]),
        "purpose": st.sampled_from(["x", "y"]),
        "artifact__size": st.integers(0, 9),
        "export__number": st.just("5D002"),
        "data__categories": st.lists(st.sampled_from(["health", "personal"]), min_size=1),
    },
)


def written(drawn: list[tuple[str, str, str]]) -> list[str]:
    return [
        rule(f"id: r{n}, effect: {effect}, when: {{{when}}}, unless: {{{unless}}}")
        for n, (effect, when, unless) in enumerate(drawn)
    ]


@settings(max_examples=60, deadline=None)
@given(bodies, known)
def test_every_policy_and_set_of_facts_has_a_decision_with_a_reason(drawn, values):
    decision = evaluate(policy(*written(drawn)), Gate.OFFER, facts(**values))

    assert decision.deciding
    assert {result.rule for result in decision.results} >= {f"r{n}" for n in range(len(drawn))}
    if decision.outcome is Outcome.ALLOW:
        assert all(result.verdict in (Verdict.APPLIED, Verdict.NOT_APPLIED) for result in decision.results)


@settings(max_examples=60, deadline=None)
@given(bodies, known, st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(drawn, values, shuffler: random.Random):
    rules = written(drawn)
    shuffled = shuffler.sample(rules, len(rules))
    first, second = (evaluate(policy(*each), Gate.OFFER, facts(**values)) for each in (rules, shuffled))

    assert (first.outcome, first.results, first.approvals, first.obligations) == (
        second.outcome,
        second.results,
        second.approvals,
        second.obligations,
    )


@settings(max_examples=60, deadline=None)
@given(bodies, known, conditions)
def test_adding_a_denial_never_makes_the_outcome_milder(drawn, values, when):
    rules = written(drawn)
    before = outcome(*rules, **values)
    after = outcome(*rules, rule(f"id: added, effect: deny, when: {{{when}}}"), **values)

    assert after.strictness >= before.strictness


@settings(max_examples=60, deadline=None)
@given(bodies, known, st.sampled_from(["artifact__kind", "purpose", "artifact__size", "data__categories"]))
def test_leaving_a_fact_out_never_turns_another_outcome_into_allow(drawn, values, name):
    rules = [each.replace("export.number: {present: true}", "artifact.tag: v1") for each in written(drawn)]
    fuller = {"artifact__kind": "image", "purpose": "x", "artifact__size": 7, "data__categories": ["health"], **values}
    fewer = {key: value for key, value in fuller.items() if key != name}

    if outcome(*rules, **fewer) is Outcome.ALLOW:
        assert outcome(*rules, **fuller) is Outcome.ALLOW
