"""Groups of jurisdictions: dated, sourced, and silent where they cannot be relied upon."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError
from carnet.policy import Assurance, Facts, Groups, combine, evaluate, make_fact, parse_groups, parse_policy
from carnet.policy.checking import check_policy
from carnet.policy.evaluation import Verdict
from carnet.policy.explanation import lines
from carnet.policy.groups import Standing
from tests.carnet.policy.policies import ALLOW_ALL, CODES, DAY, LISTS, rule, source


def groups(*texts: str) -> Groups:
    return Groups(parse_groups(text, "x.yaml") for text in texts or (CODES, LISTS))


def asked(text: str, countries: object, on: date | None = DAY):
    known = groups()
    policy = combine([parse_policy(source(rule(text), ALLOW_ALL), "x.yaml", known)], known)
    name = "parties.countries" if isinstance(countries, list) else "destination.jurisdiction"
    facts: Facts = {} if countries is None else {name: make_fact(name, countries, Assurance.DECLARED, "waybill")}
    return evaluate(policy, Gate.OFFER, facts, on)


@pytest.mark.parametrize(
    ("code", "group", "standing"),
    [
        ("DE", "OURS", Standing.IN),
        ("DE-BY", "OURS", Standing.IN),
        ("US", "OURS", Standing.OUT),
        ("US-VA", "OURS", Standing.OUT),
        ("UA-43", "BARRED", Standing.IN),
        ("UA-30", "BARRED", Standing.OUT),
        ("UA", "BARRED", Standing.PART_MISSING),
        ("UA", "OURS", Standing.OUT),
        ("ZZ", "OURS", Standing.UNKNOWN),
        ("ZZ-1", "OURS", Standing.UNKNOWN),
        ("de", "OURS", Standing.UNKNOWN),
        ("", "OURS", Standing.UNKNOWN),
        ("KH", "BARRED", Standing.IN),
        ("GB", "BARRED", Standing.OUT),
    ],
)
def test_a_code_is_in_out_or_neither(code, group, standing):
    assert groups().standing(code, (group,), DAY) is standing


def test_a_member_counts_between_its_days_and_both_are_included():
    known = groups()

    assert known.standing("KH", ("BARRED",), date(2026, 12, 2)) is Standing.OUT
    assert known.standing("GB", ("BARRED",), date(2026, 12, 24)) is Standing.IN


@pytest.mark.parametrize("on", [date(2026, 10, 31), date(2027, 2, 1), None])
def test_outside_its_days_a_file_says_nothing(on):
    known = groups()

    assert known.standing("DE", ("OURS",), on) is Standing.OUT_OF_DATE
    assert known.outdated(("OURS",), on) == ["lists"]


@given(st.text(max_size=6), st.dates(date(2020, 1, 1), date(2032, 1, 1)))
def test_any_text_has_a_standing_and_never_both(text, on):
    known = groups()

    together = known.standing(text, ("OURS", "BARRED"), on)
    each = {known.standing(text, (name,), on) for name in ("OURS", "BARRED")}

    assert (together is Standing.IN) == (Standing.IN in each)
    assert (together is Standing.OUT) == (each == {Standing.OUT})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("  OURS:", "  ours:"), "must be the name of a group"),
        (("code: FR}", "code: France}"), "must be an ISO 3166 code"),
        (("2027-01-31", "2026-10-01"), "effective_until is before effective_from"),
        (("2027-01-31", "2027-02-30"), "day is out of range"),
        (("{code: FR}", "{code: DE}"), "a code stands twice in the group"),
        (("source: a gazette\n", ""), "source is missing"),
        (("title: ours", "titel: ours"), "titel is not known here; is title meant"),
        (("source: a gazette", "source: a gazette\nsauce: none"), "sauce is not known here; is source meant"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(change, problem):
    with pytest.raises(CallerError, match=f"x.yaml: line [0-9]+: .*{problem}"):
        parse_groups(LISTS.replace(*change), "x.yaml")


def test_files_may_not_name_one_group_twice_nor_a_code_that_none_knows():
    with pytest.raises(CallerError, match="the group BARRED stands in lists and in other"):
        groups(CODES, LISTS, LISTS.replace("id: lists", "id: other"))
    with pytest.raises(CallerError, match="the group OURS of lists has FR, which no file knows"):
        groups(CODES.replace("FR, ", ""), LISTS)


def test_a_rule_reads_a_jurisdiction_by_groups():
    deny = "effect: deny, when: {destination.jurisdiction: {outside: [OURS, BARRED]}}"

    assert asked(deny, "US").outcome is Outcome.DENY
    assert asked(deny, "FR").outcome is Outcome.ALLOW
    assert asked(deny, "RU").outcome is Outcome.ALLOW


def test_one_member_of_a_list_in_a_group_is_enough_and_one_outside_it_too():
    assert asked("effect: deny, when: {parties.countries: {group: BARRED}}", ["DE", "RU"]).outcome is Outcome.DENY
    assert asked("effect: deny, when: {parties.countries: {outside: OURS}}", ["DE", "US"]).outcome is Outcome.DENY
    assert asked("effect: deny, when: {parties.countries: {outside: OURS}}", []).outcome is Outcome.ALLOW


@pytest.mark.parametrize("effect", ["allow", "deny", "hold"])
def test_a_code_that_no_file_knows_is_a_denial_whatever_the_rule_says(effect):
    decision = asked(f"effect: {effect}, when: {{parties.countries: {{group: OURS}}}}", ["DE", "QQ"])

    assert decision.outcome is Outcome.DENY
    assert decision.deciding[0].verdict is Verdict.UNKNOWN_CODE
    assert any(
        "UNKNOWN-CODE: parties.countries is 'DE', 'QQ', declared by waybill; no list knows" in line for line in lines(decision)
    )


def test_a_file_out_of_date_holds_and_is_named_by_its_group():
    decision = asked("effect: allow, when: {parties.countries: {group: OURS}}", ["DE"], date(2027, 3, 1))

    assert decision.outcome is Outcome.HOLD
    assert any("GROUPS-OUT-OF-DATE: OURS cannot be relied upon today" in line for line in lines(decision))


def test_a_country_of_which_parts_are_listed_holds_until_the_part_is_stated():
    text = "effect: deny, when: {destination.jurisdiction: {group: BARRED}}"
    decision = asked(text, "UA")

    assert decision.outcome is Outcome.HOLD
    assert any("PART-MISSING: destination.jurisdiction is 'UA'" in line for line in lines(decision))
    assert asked(text, "UA-30").outcome is Outcome.ALLOW


def test_a_group_that_there_is_not_is_an_error_of_the_policy_with_its_line():
    text = source(rule("when: {destination.jurisdiction: {group: [OURS, THEIRS]}}"))

    assert [str(one) for one in check_policy(text, groups()) if one.is_error] == [
        "line 4: error: rule r1: no group of jurisdictions is called THEIRS"
    ]


def test_groups_are_asked_of_jurisdictions_only():
    found = check_policy(source(rule("when: {lane: {group: OURS}}")), groups())

    assert any("the fact lane is a text, so 'is in OURS' cannot be asked of it" in one.text for one in found)


def test_what_groups_say_is_part_of_what_the_policy_says_if_a_rule_asks_them():
    def digest(text: str, lists: str):
        known = groups(CODES, lists)
        return combine([parse_policy(source(rule(text)), "x.yaml", known)], known).digest

    asks, other = "when: {destination.jurisdiction: {group: OURS}}", LISTS.replace("{code: DE}", "{code: US}")

    assert digest(asks, LISTS) != digest(asks, other)
    assert digest("when: {lane: a}", LISTS) == digest("when: {lane: a}", other)


def test_a_permit_that_one_of_a_list_would_satisfy_is_a_doubt():
    text = source(rule("effect: allow, when: {parties.countries: {outside: BARRED}}"))
    better = source(rule("effect: allow, unless: {parties.countries: {group: BARRED}}"))

    assert any("allows when one of parties.countries is outside BARRED" in str(one) for one in check_policy(text, groups()))
    assert check_policy(better, groups()) == []
