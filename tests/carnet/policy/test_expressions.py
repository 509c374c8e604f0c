"""Expressions: what a rule asks of several facts together; what is missing, wrong or too much for them."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError
from carnet.policy import Assurance, Fact, check_policy, evaluate
from carnet.policy.evaluation import Verdict
from carnet.policy.explanation import lines
from carnet.policy.expressions import EXPRESSION_CHARS_MAX, read_expression
from carnet.policy.facts import FACTS
from carnet.policy.matching import Answer
from carnet.policy.missing import find_missing
from tests.carnet.policy.policies import ALLOW_ALL, policy, rule, source

OURSELVES = "id: ours, effect: deny, where: 'origin_operator == destination_operator'"


def known(**facts) -> dict[str, Fact]:
    return {name.replace("__", "."): Fact(value, Assurance.DERIVED, "the tests") for name, value in facts.items()}


def test_two_facts_are_compared_with_each_other():
    said = policy(ALLOW_ALL, rule(OURSELVES))

    same = evaluate(said, Gate.OFFER, known(origin__operator="Acme", destination__operator="Acme"))
    other = evaluate(said, Gate.OFFER, known(origin__operator="Acme", destination__operator="Other"))

    assert (same.outcome, other.outcome) == (Outcome.DENY, Outcome.ALLOW)


def test_it_is_asked_beside_the_conditions_of_the_rule_and_not_where_one_rules_it_out():
    said = policy(ALLOW_ALL, rule(OURSELVES + ", when: {purpose: test}"))
    facts = known(origin__operator="Acme", destination__operator="Acme", purpose="deploy")

    assert evaluate(said, Gate.OFFER, facts).outcome is Outcome.ALLOW
    assert evaluate(said, Gate.OFFER, known(purpose="deploy")).outcome is Outcome.ALLOW
    assert evaluate(said, Gate.OFFER, {**facts, **known(purpose="test")}).outcome is Outcome.DENY


def test_a_fact_that_is_missing_holds_and_is_the_one_that_is_named():
    decision = evaluate(policy(ALLOW_ALL, rule(OURSELVES)), Gate.OFFER, known(origin__operator="Acme"))

    assert decision.outcome is Outcome.HOLD
    said = "\n".join(lines(decision))
    assert "FACT-MISSING: destination.operator is not known" in said
    assert "origin.operator is 'Acme', derived by the tests (so it fits the expression" in said


@pytest.mark.parametrize(
    "text",
    ["artifact_size > 'big'", "artifact_size / 0 == 1", "parties_names[7] == 'x'", "[1, 2][artifact_size] == 1"],
)
def test_what_fails_is_an_error_that_holds(text):
    facts = known(artifact__size=3, parties__names=("Acme",))
    decision = evaluate(policy(ALLOW_ALL, rule(f'id: x, effect: deny, where: "{text}"')), Gate.OFFER, facts)

    assert decision.outcome is Outcome.HOLD
    assert next(one for one in decision.results if one.rule == "x").verdict is Verdict.ERROR


def test_lists_and_labels_and_integers_are_read_as_what_they_are():
    facts = known(parties__names=("Acme", "Other"), artifact__size=3, suite__fips=True) | known(label__team="core")
    for text in (
        "parties_names.exists(x, x == 'Acme') && size(parties_names) == 2",
        "artifact_size * 2 == 6 && suite_fips",
        "label_team.startsWith('co')",
        "parties_names.all(p, p.matches('^[A-Z]'))",
    ):
        assert read_expression(text).answer(facts) is Answer.YES, text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("origin_operator ==", "no expression in CEL"),
        ("origin_oprator == 'x'", "names 'origin_oprator', which is no fact"),
        ("origin.operator == 'x'", "names 'origin', which is no fact: write origin_operator for origin.operator"),
        ("label_ == 'x'", "which is no fact"),
        ("nationality == 'x'", "which is no fact"),
        ("'x' == '" + "x" * EXPRESSION_CHARS_MAX + "'", "at most 500"),
        ("parties_names.all(a, parties_names.all(b, parties_names.exists(c, a == b)))", "more than 2 macros"),
    ],
)
def test_what_is_no_expression_over_facts_makes_the_policy_unusable(text, words):
    with pytest.raises(CallerError, match=words):
        read_expression(text)


def test_a_mistake_is_told_with_its_line_and_a_doubt_as_a_warning():
    text = (
        source(ALLOW_ALL)
        + """
  - id: wrong
    at: [offer]
    where: "origin_oprator == 'x'"
    effect: allow
    reason: r
  - id: odd
    at: [offer]
    where: "artifact_size / 0 == 1"
    effect: allow
    reason: r
  - id: same
    at: [offer]
    where: "1 < 2"
    effect: allow
    reason: r
"""
    )
    found = check_policy(text)

    assert [(one.is_error, one.text) for one in found] == [
        (True, "rule wrong: the expression names 'origin_oprator', which is no fact"),
        (False, "rule odd: its expression, tried on one value of each type, fails: division by zero in CEL expression"),
        (False, "rule same: its expression reads no fact, so it always says the same"),
    ]
    assert text.splitlines()[found[0].line - 1].strip().startswith("where:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("artifact_size", "the expression is neither true nor false"),
        ("fits(origin_operator)", "CEL has no function called fits"),
        ("artifact_size.fits()", "CEL has no function called fits"),
    ],
)
def test_what_could_never_be_answered_is_an_error_of_the_policy(text, words):
    with pytest.raises(CallerError, match=words):
        policy(ALLOW_ALL, rule(f'id: x, effect: deny, where: "{text}"'))


@pytest.mark.parametrize("text", ["origin_operator ==", "origin_operator.matches('[')", "origin_operator > 5", "é é"])
def test_what_the_library_says_is_one_short_whole_piece(text):
    found = [one.text for one in check_policy(source(ALLOW_ALL, rule(f'id: x, effect: deny, where: "{text}"')))]

    assert len(found) == 1
    assert len(found[0]) < 220
    assert found[0].isascii()
    assert "expecting" not in found[0]


def test_every_fact_has_one_name_in_expressions():
    assert len({name.replace(".", "_") for name in FACTS}) == len(FACTS)
    for name in FACTS:
        assert read_expression(f"{name.replace('.', '_')} == {name.replace('.', '_')}").names == (name,)


def test_what_an_expression_lacks_is_not_found_out_in_full_and_advice_says_so():
    said = policy(ALLOW_ALL, rule(OURSELVES))
    facts = known(origin__operator="Acme")

    found = find_missing(said, facts, [evaluate(said, Gate.OFFER, facts)], None)

    assert found.prospect.value == "unknown"


def test_a_policy_with_expressions_is_another_policy_and_without_them_the_same_as_ever():
    plain, asked = policy(ALLOW_ALL, rule("id: x, effect: deny")), policy(ALLOW_ALL, rule("id: x, effect: deny, where: 'true'"))

    assert plain.digest != asked.digest
    assert "where" not in plain.files[0].rules[1].to_json()


def test_threads_share_an_expression():
    expression, said = read_expression("artifact_size > 2"), []
    threads = [
        threading.Thread(target=lambda size=size: said.append((size, expression.answer(known(artifact__size=size)))))
        for size in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert dict(said) == {size: Answer.YES if size > 2 else Answer.NO for size in range(8)}


@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused(text):
    try:
        expression = read_expression(text)
    except CallerError:
        return
    assert expression.answer({}) in Answer
