import random
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError
from carnet.policy import combine, evaluate, parse_policy
from carnet.policy.evaluation import Verdict
from carnet.policy.explanation import lines
from tests.carnet.policy.policies import ALLOW_ALL, DAY, HEAD, facts, policy, rule, source


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


def test_at_recheck_no_rule_means_that_it_stands_and_rules_only_tighten():
    tighten = rule("effect: quarantine, at: [recheck], when: {purpose: x}")

    assert outcome(ALLOW_ALL, gate=Gate.RECHECK) is Outcome.ALLOW
    assert outcome(tighten, gate=Gate.RECHECK, purpose="y") is Outcome.ALLOW
    assert outcome(tighten, gate=Gate.RECHECK, purpose="x") is Outcome.QUARANTINE
    assert outcome(tighten, gate=Gate.RECHECK) is Outcome.HOLD


def test_one_alternative_of_unless_is_enough_and_none_missing_counts_as_one():
    text = rule("effect: deny, unless: [{artifact.kind: image}, {artifact.kind: patch, purpose: test}]")

    assert outcome(text, ALLOW_ALL, artifact__kind="image") is Outcome.ALLOW
    assert outcome(text, ALLOW_ALL, artifact__kind="patch", purpose="test") is Outcome.ALLOW
    assert outcome(text, ALLOW_ALL, artifact__kind="patch", purpose="deploy") is Outcome.DENY
    assert outcome(text, ALLOW_ALL, artifact__kind="patch") is Outcome.HOLD
    assert outcome(text, ALLOW_ALL, artifact__kind="bundle") is Outcome.DENY


@pytest.mark.parametrize(
    ("on", "expected"),
    [("2026-11-30", "allow"), ("2026-12-01", "deny"), ("2026-12-31", "deny"), ("2027-01-01", "deny"), (None, "deny")],
)
def test_a_policy_counts_from_its_first_day_and_is_never_looser_after_its_last(on, expected):
    head = HEAD.replace("id: test", "id: dated, effective_from: 2026-12-01, effective_until: 2026-12-31")
    dated = parse_policy(f"{head}rules:\n  - {rule('id: dated, effect: deny')}\n", "dated.yaml")
    both = combine([dated, parse_policy(source(ALLOW_ALL), "x.yaml")])

    decision = evaluate(both, Gate.OFFER, {}, None if on is None else date.fromisoformat(on))

    assert decision.outcome.value == expected


def test_a_policy_that_is_over_says_nothing_about_what_its_rules_are_not_for():
    head = HEAD.replace("id: test", "id: dated, effective_until: 2026-12-31")
    dated = parse_policy(f"{head}rules:\n  - {rule('id: dated, when: {purpose: x}')}\n", "dated.yaml")
    both = combine([dated, parse_policy(source(ALLOW_ALL), "x.yaml")])

    said = {purpose: evaluate(both, Gate.OFFER, facts(purpose=purpose), date(2027, 1, 1)).outcome.value for purpose in "xy"}

    assert said == {"x": "hold", "y": "allow"}


def test_a_policy_of_which_nobody_knows_whether_it_began_holds_what_it_would_allow():
    head = HEAD.replace("id: test", "id: dated, effective_from: 2026-12-01")
    dated = combine([parse_policy(f"{head}rules:\n  - {ALLOW_ALL}\n", "dated.yaml")])

    assert evaluate(dated, Gate.OFFER, {}, None).outcome is Outcome.HOLD
    assert evaluate(dated, Gate.OFFER, {}, date(2026, 11, 30)).outcome is Outcome.DENY
    assert evaluate(dated, Gate.OFFER, {}, date(2026, 12, 1)).outcome is Outcome.ALLOW


@pytest.mark.parametrize("on", [date(2027, 1, 1), None])
def test_a_policy_that_is_over_holds_what_it_would_allow_and_says_whose_it_is(on):
    head = HEAD.replace("id: test", "id: dated, effective_until: 2026-12-31")
    dated = combine([parse_policy(f"{head}rules:\n  - {ALLOW_ALL}\n", "dated.yaml")])

    decision = evaluate(dated, Gate.OFFER, {}, on)

    assert decision.outcome is Outcome.HOLD
    assert not decision.is_satisfiable
    assert decision.deciding[0].rule == "all"
    assert decision.deciding[0].reason.startswith("the policy dated is in force from the beginning until 2026-12-31 only")
    assert decision.deciding[0].remedy == "ask tests to review it and put a later edition in its place"


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
                "id: a, at: [offer, release], effect: hold, approvals: [{role: legal, count: 1}, {role: security}], "
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
    "destination.jurisdiction: {group: OURS}",
    "parties.countries: {outside: OURS}",
    "parties.countries: {group: BARRED}",
    "legal.basis: {assurance: derived}",
]
conditions = st.lists(st.sampled_from(CONDITIONS[1:]), max_size=2, unique_by=lambda text: text.split(":")[0]).map(", ".join)
effects = st.sampled_from(["allow", "hold", "quarantine", "deny"])
alternatives = st.lists(conditions, max_size=3).map(lambda each: [text for text in each if text])
bodies = st.lists(st.tuples(effects, conditions, alternatives), min_size=1, max_size=5)
gates = st.sampled_from([Gate.OFFER, Gate.RECHECK])
days = st.sampled_from([DAY, date(2030, 1, 1), None])
known = st.fixed_dictionaries(
    {},
    optional={
        "artifact__kind": st.sampled_from(["image", "patch"]),
        "purpose": st.sampled_from(["x", "y"]),
        "artifact__size": st.integers(0, 9),
        "export__number": st.just("5D002"),
        "data__categories": st.lists(st.sampled_from(["health", "personal"]), min_size=1),
        "destination__jurisdiction": st.sampled_from(["DE", "US", "UA", "UA-43", "ZZ"]),
        "parties__countries": st.lists(st.sampled_from(["DE", "US", "UA", "UA-30", "ZZ"]), max_size=3),
        "legal__basis": st.just("SCC"),
    },
)


def written(drawn: list[tuple[str, str, list[str]]]) -> list[str]:
    return [
        rule(f"id: r{n}, at: [offer, recheck], effect: {effect}, when: {{{when}}}" + _unless(unless))
        for n, (effect, when, unless) in enumerate(drawn)
    ]


def _unless(alternatives: list[str]) -> str:
    return ", unless: [" + ", ".join(f"{{{text}}}" for text in alternatives) + "]" if alternatives else ""


@settings(max_examples=100, deadline=None)
@given(bodies, known, gates, days)
def test_every_policy_and_set_of_facts_has_a_decision_whose_explanation_names_what_decided(drawn, values, gate, on):
    decision = evaluate(policy(*written(drawn)), gate, facts(**values), on)

    said = "\n".join(lines(decision))
    assert decision.deciding
    assert {result.rule for result in decision.results} >= {f"r{n}" for n in range(len(drawn))}
    assert all(f"  {result.rule} (" in said for result in decision.results)
    if decision.outcome is Outcome.ALLOW:
        assert all(result.verdict in (Verdict.APPLIED, Verdict.NOT_APPLIED) for result in decision.results)


@settings(max_examples=60, deadline=None)
@given(bodies, known, st.randoms(use_true_random=False), gates, days)
def test_the_order_of_rules_does_not_matter(drawn, values, shuffler: random.Random, gate, on):
    rules = written(drawn)
    shuffled = shuffler.sample(rules, len(rules))
    first, second = (evaluate(policy(*each), gate, facts(**values), on) for each in (rules, shuffled))

    assert (first.outcome, first.results, first.approvals, first.obligations) == (
        second.outcome,
        second.results,
        second.approvals,
        second.obligations,
    )


@settings(max_examples=100, deadline=None)
@given(bodies, known, conditions, gates, days)
def test_adding_a_denial_never_makes_the_outcome_milder(drawn, values, when, gate, on):
    rules = written(drawn)
    before = evaluate(policy(*rules), gate, facts(**values), on).outcome
    added = rule(f"id: added, at: [offer, recheck], effect: deny, when: {{{when}}}")
    after = evaluate(policy(*rules, added), gate, facts(**values), on).outcome

    assert after.strictness >= before.strictness


@settings(max_examples=60, deadline=None)
@given(bodies, known)
def test_a_day_that_nobody_knows_never_allows_what_that_day_would_not(drawn, values):
    rules = written(drawn)

    if evaluate(policy(*rules), Gate.OFFER, facts(**values), None).outcome is Outcome.ALLOW:
        assert evaluate(policy(*rules), Gate.OFFER, facts(**values), DAY).outcome is Outcome.ALLOW


@settings(max_examples=60, deadline=None)
@given(bodies, known, st.sampled_from(["artifact__kind", "purpose", "artifact__size", "data__categories"]))
def test_leaving_a_fact_out_never_turns_another_outcome_into_allow(drawn, values, name):
    rules = [each.replace("export.number: {present: true}", "artifact.tag: v1") for each in written(drawn)]
    fuller = {"artifact__kind": "image", "purpose": "x", "artifact__size": 7, "data__categories": ["health"], **values}
    fewer = {key: value for key, value in fuller.items() if key != name}

    if outcome(*rules, **fewer) is Outcome.ALLOW:
        assert outcome(*rules, **fuller) is Outcome.ALLOW
