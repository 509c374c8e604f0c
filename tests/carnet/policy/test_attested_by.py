"""Whose word counts: roles of people for facts, named by the policy; and what policy check says of it."""

from datetime import date

import pytest

from carnet.policy import check_policy, combine, parse_policy

POLICY = """
apiVersion: carnet/policy/v1
metadata: {id: p, version: 1, owner: me, effective_from: 2026-11-01, effective_until: 2026-12-31}
attested_by: {export-control: [licence.*, export.number]}
rules:
  - {id: a, at: [release], when: {licence.valid: true, recipient.end_use: deploy}, effect: allow, reason: r}
"""


def test_a_word_counts_for_what_the_policy_names_and_for_nothing_else():
    policy = combine([parse_policy(POLICY, "p.yaml")])

    assert policy.may_attest("export-control", "licence.kind")
    assert policy.attesters("export.number") == ("export-control",)
    assert not policy.may_attest("export-control", "export.published")
    assert not policy.may_attest("security", "licence.kind")


def test_a_fact_that_only_people_know_and_nobody_may_attest_is_a_warning():
    assert [str(one) for one in check_policy(POLICY)] == [
        "line 6: warning: rule a: nobody's word counts for the fact recipient.end_use: name a role for it under `attested_by`"
    ]


@pytest.mark.parametrize("pattern", ["origin.jurisdiction", "lane.*", "nothing.here", "content.inspected"])
def test_nobody_can_be_given_a_say_about_what_a_site_finds_out_itself(pattern):
    [error] = [one for one in check_policy(POLICY.replace("export.number", pattern)) if one.is_error]

    assert error.line == 4
    assert f"export-control cannot attest {pattern}" in error.text


@pytest.mark.parametrize(
    ("on", "change"),
    [("2026-10-01", "2026-11-01"), ("2026-11-01", "2027-01-01"), ("2026-12-31", "2027-01-01"), ("2027-01-01", None)],
)
def test_a_policy_says_on_which_day_it_next_begins_or_ends_to_count(on, change):
    policy = combine([parse_policy(POLICY, "p.yaml")])

    assert policy.changes_after(date.fromisoformat(on)) == (None if change is None else date.fromisoformat(change))
