"""What is missing: the list is the shortest, what it names turns the decision, and what is known stays as it is."""

from itertools import chain, combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.decision import Gate, Outcome
from carnet.policy import Assurance, Fact, combine, evaluate, parse_policy
from carnet.policy.facts import Supplier
from carnet.policy.missing import FACTS_MISSING_MAX, Prospect, find_missing
from carnet.policy.supplying import act
from gateway.packs import pack_names, read_tested
from tests.carnet.policy.policies import ALLOW_ALL, DAY, GROUPS, HEAD, policy, rule, source

ATTESTED = "attested_by: {security: [scan.hours, content.*], export-control: [licence.*, export.number]}\n"


def attested(*rules: str):
    return combine([parse_policy(source(*rules).replace(HEAD, HEAD + ATTESTED), "test.yaml", GROUPS)], GROUPS)


def known(**values: object) -> dict[str, Fact]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {name: Fact(value, Assurance.DECLARED, "tests") for name, value in named.items()}  # type: ignore[arg-type]


def ask(asked, facts=None, *gates):
    facts = facts or {}
    decisions = [evaluate(asked, gate, facts, DAY) for gate in gates or (Gate.OFFER,)]
    return find_missing(asked, facts, decisions, DAY)


def names(found):
    return [one.name for one in found.facts]


def needs(found):
    return [(gate.value, need.role, need.count) for gate, need in found.approvals]


def test_what_is_allowed_lacks_nothing():
    assert ask(policy(ALLOW_ALL)).prospect is Prospect.NOTHING


def test_a_fact_that_a_permit_needs_is_named_with_what_is_asked_of_it_and_by_whom():
    [one] = ask(policy(rule("when: {export.number: [EAR99, 5D992]}"))).facts

    assert (one.name, one.supplier, one.gate) == ("export.number", Supplier.SENDER, Gate.OFFER)
    assert one.wanted == "is one of 'EAR99', '5D992'"


def test_what_a_refusal_asks_about_need_only_be_another():
    [one] = ask(policy(ALLOW_ALL, rule("when: {artifact.classification: [secret, cui]}, effect: deny"))).facts

    assert one.wanted == "is not one of 'secret', 'cui'"


def test_where_any_value_will_do_the_fact_need_only_be_known():
    [one] = ask(policy(ALLOW_ALL, rule("unless: {purpose: {present: true}}, effect: hold"))).facts

    assert (one.name, one.wanted) == ("purpose", "is known")


def test_the_alternative_with_the_fewest_missing_facts_is_taken():
    asked = policy(
        ALLOW_ALL, rule("unless: [{label.a: x, label.b: y}, {purpose: p}, {label.c: x, label.d: y, label.e: z}], effect: hold")
    )

    assert names(ask(asked)) == ["purpose"]
    assert names(ask(asked, known(label__a="x", label__b="no"))) == ["purpose"]
    assert names(ask(asked, known(purpose="q", label__a="x"))) == ["label.b"]


def test_of_two_that_are_as_short_the_same_is_taken_whatever_the_order():
    one = policy(ALLOW_ALL, rule("unless: [{label.b: x}, {label.a: x}], effect: hold"))
    other = policy(ALLOW_ALL, rule("unless: [{label.a: x}, {label.b: x}], effect: hold"))

    assert names(ask(one)) == names(ask(other)) == ["label.a"]


def test_one_fact_may_settle_several_rules():
    asked = policy(
        ALLOW_ALL,
        rule("id: a, unless: [{purpose: p}, {label.a: x}], effect: hold"),
        rule("id: b, unless: [{purpose: [p, q]}, {label.b: x}], effect: hold"),
        rule("id: c, when: {purpose: q}, effect: deny"),
    )

    [one] = ask(asked).facts

    assert (one.name, one.wanted) == ("purpose", "is 'p'")


def test_what_one_document_makes_known_counts_once():
    asked = attested(
        ALLOW_ALL, rule("id: r1, unless: [{licence.kind: TAA, licence.valid: true}, {label.a: x, purpose: p}], effect: deny")
    )

    assert names(ask(asked)) == ["licence.kind", "licence.valid"]


def test_a_known_fact_is_never_to_be_said_otherwise():
    asked = policy(ALLOW_ALL, rule("when: {artifact.classification: secret}, effect: deny"))

    found = ask(asked, known(artifact__classification="secret"))

    assert (found.prospect, found.facts, found.approvals) == (Prospect.CLOSED, (), ())


def test_a_declared_fact_that_people_have_to_vouch_for_is_missing_their_word():
    asked = attested(rule("when: {export.number: {assurance: attested, value: EAR99}}"))

    [one] = ask(asked, known(export__number="EAR99")).facts

    assert (one.name, one.supplier, one.roles) == ("export.number", Supplier.PEOPLE, ("export-control",))
    assert one.wanted == "is known"
    assert ask(asked, known(export__number="5D002")).prospect is Prospect.CLOSED


def test_a_sender_is_not_asked_for_what_only_peoples_word_satisfies():
    [one] = ask(attested(rule("when: {export.number: {assurance: attested, value: EAR99}}"))).facts

    assert one.supplier is Supplier.PEOPLE


def test_persons_whom_a_hold_asks_are_what_is_left():
    asked = policy(ALLOW_ALL, rule("effect: hold, approvals: [{role: security, count: 2}]"))

    found = ask(asked)

    assert (found.facts, needs(found)) == ((), [("offer", "security", 2)])


def test_facts_that_a_hold_needs_before_persons_are_asked_come_with_the_persons():
    asked = policy(
        ALLOW_ALL,
        rule("id: a, when: {lane: us-eu}, unless: {label.a: x, label.b: y, label.c: z}, effect: hold, approvals: [{role: dpo}]"),
        rule("id: b, unless: {purpose: [p, q]}, effect: hold"),
    )

    found = ask(asked, known(lane="us-eu"))

    assert (names(found), needs(found)) == (["label.a", "purpose"], [("offer", "dpo", 1)])


def test_at_receipt_nobody_is_asked_so_a_hold_for_persons_is_closed():
    asked = policy(ALLOW_ALL, rule("at: [receipt], effect: hold, approvals: [{role: security}]"))

    assert ask(asked, {}, Gate.RECEIPT).prospect is Prospect.CLOSED


def test_one_list_serves_several_gates_and_says_which_is_the_first_that_needs_a_thing():
    asked = policy(
        ALLOW_ALL,
        rule("id: a, unless: {label.a: x}, effect: hold"),
        rule("id: b, at: [release], unless: {purpose: p}, effect: hold"),
        rule("id: c, at: [release], effect: hold, approvals: [{role: legal}]"),
    )

    found = ask(asked, {}, Gate.OFFER, Gate.RELEASE)

    assert [(one.name, one.gate.value) for one in found.facts] == [("label.a", "offer"), ("purpose", "release")]
    assert needs(found) == [("release", "legal", 1)]


def test_a_fact_that_nobody_may_vouch_for_is_named_only_if_nothing_else_will_do():
    asked = attested(ALLOW_ALL, rule("unless: [{screening.band: none}, {label.a: x, label.b: y}], effect: hold"))
    only = attested(ALLOW_ALL, rule("unless: {screening.band: none}, effect: hold"))

    assert names(ask(asked)) == ["label.a", "label.b"]
    assert [(one.name, one.roles) for one in ask(only).facts] == [("screening.band", ())]


def test_what_the_site_finds_out_itself_costs_nobody_anything():
    asked = policy(ALLOW_ALL, rule("unless: [{label.a: x}, {artifact.size: {max: 10}}], effect: hold"))

    assert [(one.name, one.supplier, one.wanted) for one in ask(asked).facts] == [
        ("artifact.size", Supplier.SITE, "is at most 10")
    ]


def test_without_a_rule_that_allows_nothing_is_missing_but_a_rule():
    assert ask(policy(rule("effect: hold, approvals: [{role: security}]"))).prospect is Prospect.CLOSED


def test_a_rule_that_a_supplied_fact_would_leave_unsettled_is_settled_too():
    asked = policy(
        rule("id: a, when: {label.a: x}"),
        rule("id: b, when: {label.a: {present: true}, purpose: y}, unless: {label.a: {present: true}, purpose: y}"),
    )

    assert names(ask(asked)) == ["label.a", "purpose"]


def test_countries_are_asked_about_by_group():
    [one] = ask(policy(ALLOW_ALL, rule("unless: {parties.countries: {group: OURS}}, effect: deny"))).facts

    assert (one.name, one.wanted) == ("parties.countries", "is in OURS")


def test_a_policy_that_is_over_is_opened_by_nothing():
    over = source(rule("when: {purpose: p}")).replace("owner: tests", "owner: tests, effective_until: 2026-11-01")
    asked = combine([parse_policy(over, "test.yaml")])

    assert ask(asked).prospect in (Prospect.UNKNOWN, Prospect.CLOSED)
    assert ask(asked, known(purpose="p")).prospect is Prospect.CLOSED


def test_many_rules_that_have_nothing_in_common_are_no_more_work_than_each():
    asked = policy(
        ALLOW_ALL, *(rule(f"id: r{n}, when: {{label.a{n}: x, label.b{n}: y}}, effect: hold") for n in range(FACTS_MISSING_MAX))
    )

    assert len(ask(asked).facts) == FACTS_MISSING_MAX


def test_a_list_that_would_be_too_long_is_not_made():
    asked = policy(ALLOW_ALL, *(rule(f"id: r{n}, unless: {{label.a{n}: x}}, effect: hold") for n in range(FACTS_MISSING_MAX + 1)))

    assert ask(asked) == ask(asked)
    assert (ask(asked).prospect, ask(asked).facts) == (Prospect.UNKNOWN, ())


@pytest.mark.parametrize("name", pack_names())
def test_in_every_case_of_a_pack_what_is_named_turns_the_decision(name):
    tested = read_tested(name)
    listed = 0
    for question in tested.questions:
        decision = question.decide(tested.policy)
        found = find_missing(tested.policy, question.facts, [decision], question.on)
        assert found.prospect is not Prospect.UNKNOWN
        assert (found.prospect is Prospect.NOTHING) == (decision.outcome is Outcome.ALLOW)
        then = _supplied(tested.policy, question.facts, found, decision.gate, question.on)
        if found.prospect is Prospect.LISTED:
            listed += 1
            # What is known stays what it is; people may vouch for it.
            known_too = [one for one in found.facts if one.name in question.facts]
            assert [one.example.value for one in known_too] == [question.facts[one.name].value for one in known_too]
            assert then.is_satisfiable if found.approvals else then.outcome is Outcome.ALLOW
    assert listed


def test_the_pack_for_defence_articles_asks_for_a_licence_and_two_persons():
    tested = read_tested("us-ally-itar")
    question = next(one for one in tested.questions if one.case.name == "without an agreement nothing is released")
    found = find_missing(tested.policy, question.facts, [question.decide(tested.policy)], question.on)

    assert [(one.name, one.wanted) for one in found.facts] == [("licence.kind", "is 'TAA'")]
    assert needs(found) == [("release", "empowered-official", 1), ("release", "security-officer", 1)]


def _supplied(asked, facts, found, gate, on):
    return evaluate(asked, gate, {**facts, **{one.name: one.example for one in found.facts}}, on)


FACTS = ("label.a", "label.b", "purpose", "artifact.classification")
VALUES = ("x", "y", "z", "xx")
CONDITION = st.dictionaries(
    st.sampled_from(FACTS), st.sampled_from(["x", "y", "[x, y]", "{present: true}", "{glob: 'x*'}"]), max_size=3
)


@st.composite
def rule_texts(draw):
    number = draw(st.integers(1, 5))
    texts = []
    for place in range(number):
        when, alternatives = draw(CONDITION), draw(st.lists(CONDITION.filter(bool), max_size=2))
        effect = draw(st.sampled_from(["allow", "hold", "hold", "deny", "quarantine"]))
        approvals = ", approvals: [{role: r, count: 1}]" if effect == "hold" and draw(st.booleans()) else ""
        exempt = f", unless: [{', '.join(map(_written, alternatives))}]" if alternatives else ""
        texts.append(rule(f"id: r{place}, effect: {effect}, when: {_written(when)}{exempt}{approvals}"))
    return texts


def _written(conditions):
    return "{" + ", ".join(f"{name}: {value}" for name, value in sorted(conditions.items())) + "}"


@settings(max_examples=150, deadline=None)
@given(rule_texts(), st.dictionaries(st.sampled_from(FACTS), st.sampled_from(VALUES), max_size=2))
def test_a_list_turns_the_decision_and_no_shorter_one_would(texts, values):
    asked, facts = policy(*texts), {name: Fact(value, Assurance.DECLARED, "tests") for name, value in values.items()}
    before = evaluate(asked, Gate.OFFER, facts, DAY)
    found = find_missing(asked, facts, [before], DAY)
    then = _supplied(asked, facts, found, Gate.OFFER, DAY)

    assert found.prospect is not Prospect.UNKNOWN
    assert then.outcome.strictness <= before.outcome.strictness
    assert not {one.name for one in found.facts} & set(facts)
    assert found.prospect is not Prospect.LISTED or then.is_satisfiable or then.outcome is Outcome.ALLOW
    cheapest = min(_lists_that_open(asked, facts), default=None)
    if found.prospect is Prospect.CLOSED:
        assert cheapest is None
    else:
        assert cheapest == len({act(one.name) for one in found.facts}) + len(found.approvals)


def _lists_that_open(asked, facts):
    """Yield the price of everything that could be supplied and would open the gate."""
    absent = [name for name in FACTS if name not in facts]
    for chosen in chain.from_iterable(combinations(absent, size) for size in range(len(absent) + 1)):
        for values in product(VALUES, repeat=len(chosen)):
            more = {name: Fact(value, Assurance.DECLARED, "") for name, value in zip(chosen, values, strict=True)}
            decision = evaluate(asked, Gate.OFFER, {**facts, **more}, DAY)
            if decision.outcome is Outcome.ALLOW or decision.is_satisfiable:
                yield len(chosen) + (len(decision.approvals) if decision.outcome is Outcome.HOLD else 0)
