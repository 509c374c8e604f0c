"""Obligations: the table of kinds, what is wrong with one, what binds under an outcome, and terms that nobody understands."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.decision import Gate, Obligation, Outcome
from carnet.errors import CallerError
from carnet.identifiers import SiteName
from carnet.policy import check_policy, evaluate
from carnet.policy.groups import NO_GROUPS, Groups, parse_groups
from carnet.policy.obligations import (
    KINDS,
    Custody,
    LogCopy,
    binding,
    lies_in,
    problem_of,
    read_obligation,
    strange,
    terms,
)
from tests.carnet.policy.policies import ALLOW_ALL, facts, policy, rule, source

GROUPS = Groups(
    [
        parse_groups(
            """
apiVersion: carnet/groups/v1
id: g
effective_from: 2026-01-01
effective_until: 2026-12-31
source: the tests
reviewed_by: the tests
reviewed_on: 2026-01-01
codes: [DE, FR, US]
groups: {EU: {title: union, members: [{code: DE}, {code: FR}]}}
""",
            "g.yaml",
        )
    ]
)
GOOD = {
    "no-prefetch": {},
    "suite": {"fips": True},
    "custody": {"sites": ["us"], "regions": ["DE"]},
    "log-copy": {"region": "DE", "mode": "full"},
    "retain": {"years": 6},
    "delete-after": {"days": 7},
    "no-onward": {},
    "notify": {"role": "security", "within_h": 1},
    "report": {"channel": "cra-art-14", "within_h": 24},
    "review": {"role": "security", "within_h": 72},
}
MISTAKEN = """
  - id: r1
    at: [receipt]
    effect: allow
    reason: r
    obligations:
      - {kind: retain, parameters: {years: 6}}
      - {kind: suite, parameters: {fips: true}}
      - {kind: log-copy, parameters: {region: NOWHERE, mode: full}}
"""


def test_every_kind_of_the_table_can_be_asked_for_and_read():
    assert set(GOOD) == set(KINDS)
    for kind, parameters in GOOD.items():
        assert problem_of(Obligation(kind=kind, parameters=parameters), KINDS[kind].gates, NO_GROUPS) is None


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("watermark", {}, "no obligation is called 'watermark'"),
        ("retain", {}, "years is missing"),
        ("retain", {"years": 0}, "years"),
        ("retain", {"years": True}, "years"),
        ("retain", {"years": 6, "class": "decision"}, "class"),
        ("delete-after", {"days": 0}, "days"),
        ("no-onward", {"days": 1}, "days"),
        ("suite", {"fips": False}, "fips"),
        ("custody", {}, "name sites, or regions"),
        ("log-copy", {"region": "Germany", "mode": "full"}, "region"),
        ("log-copy", {"region": "DE", "mode": "some"}, "mode"),
        ("notify", {"role": "security"}, "within_h"),
        ("notify", {"role": "security", "within_h": 10**6}, "within_h"),
        ("report", {"within_h": 3}, "channel"),
    ],
)
def test_a_kind_that_is_none_or_says_something_else_is_a_mistake(kind, parameters, words):
    with pytest.raises(CallerError, match=words):
        read_obligation(Obligation(kind=kind, parameters=parameters))


def test_a_mistake_in_an_obligation_is_told_with_its_line_and_makes_the_policy_unusable():
    found = [one for one in check_policy(source(ALLOW_ALL) + MISTAKEN) if one.is_error]

    assert [one.text for one in found] == [
        "rule r1: the obligation suite cannot be asked for at receipt",
        "rule r1: the obligation log-copy names NOWHERE, which is no code and no group",
    ]
    assert found[1].line == found[0].line + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id: r, at: [recheck], effect: allow, obligations: [{kind: retain, parameters: {years: 6}}]", "obliges nobody"),
        ("at: [release], effect: deny, obligations: [{kind: review, parameters: {role: x, within_h: 1}}]", "of what was let go"),
        ("at: [release], effect: hold, obligations: [{kind: review, parameters: {role: x, within_h: 1}}]", "of what was let go"),
    ],
)
def test_an_obligation_that_would_never_bind_is_a_mistake(text, words):
    assert words in next(one.text for one in check_policy(source(ALLOW_ALL, rule(text))) if one.is_error)


def test_what_a_permit_asks_for_binds_once_it_is_allowed_and_what_a_hold_asks_for_binds_at_once():
    decision = evaluate(
        policy(
            ALLOW_ALL.replace("effect", "obligations: [{kind: retain, parameters: {years: 6}}], effect"),
            rule("id: h, effect: hold, obligations: [{kind: notify, parameters: {role: legal, within_h: 1}}]"),
        ),
        Gate.OFFER,
        facts(),
    )

    assert [one.kind for one in binding(decision, Outcome.HOLD)] == ["notify"]
    assert [one.kind for one in binding(decision, Outcome.ALLOW)] == ["notify", "retain"]


def test_what_a_rule_of_several_gates_asks_for_binds_at_those_where_it_means_something():
    said = policy(rule("id: all, at: [offer, release], effect: allow, obligations: [{kind: no-onward}]"))

    assert binding(evaluate(said, Gate.OFFER, facts()), Outcome.ALLOW) == ()
    assert [one.kind for one in binding(evaluate(said, Gate.RELEASE, facts()), Outcome.ALLOW)] == ["no-onward"]


def test_a_rule_that_does_not_apply_obliges_nobody():
    said = policy(ALLOW_ALL, rule("id: x, when: {purpose: x}, obligations: [{kind: retain, parameters: {years: 6}}]"))

    assert binding(evaluate(said, Gate.OFFER, facts(purpose="y")), Outcome.ALLOW) == ()


def test_terms_are_what_a_destination_keeps_to_and_unknown_ones_are_strange():
    known = [Obligation(kind=kind, parameters=parameters) for kind, parameters in GOOD.items()]

    assert [one.kind for one in terms(known)] == ["delete-after", "no-onward"]
    assert strange([*known, Obligation(kind="approvals", parameters={"legal": 1})]) is None
    assert "not known here: 'burn'" in str(strange([*known, Obligation(kind="burn")]))
    assert "cannot be read here" in str(strange([Obligation(kind="delete-after", parameters={"days": "soon"})]))


@pytest.mark.parametrize(
    ("jurisdiction", "region", "is_in"),
    [
        ("DE", "DE", True),
        ("DE-BY", "DE", True),
        ("DE", "DE-BY", False),
        ("FR", "EU", True),
        ("US", "EU", False),
        ("DE", "XX", False),
    ],
)
def test_a_site_lies_in_its_country_and_in_the_groups_that_have_it(jurisdiction, region, is_in):
    assert lies_in(jurisdiction, region, GROUPS, date(2026, 6, 1)) is is_in


def test_a_group_that_is_out_of_date_has_nobody_in_it():
    assert not lies_in("DE", "EU", GROUPS, date(2027, 6, 1))


@given(
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=8), st.one_of(st.integers(-5, 5), st.text(max_size=5), st.booleans()), max_size=3),
)
def test_whatever_an_obligation_says_it_is_read_or_refused(kind, parameters):
    try:
        one = Obligation(kind=kind or "x", parameters=parameters)
    except ValueError:
        return
    assert problem_of(one, [Gate.OFFER], NO_GROUPS) is None or problem_of(one, [Gate.OFFER], NO_GROUPS)


def test_parameters_are_read_as_what_they_are():
    assert read_obligation(Obligation(kind="custody", parameters={"sites": ["us"]})) == Custody(sites=(SiteName("us"),))
    assert read_obligation(Obligation(kind="log-copy", parameters=GOOD["log-copy"])) == LogCopy(region="DE", mode="full")
