"""The licence: what it covers, when, and that shares together are never more than the whole."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carnet.identifiers import SiteName
from carnet.licence import Licence, Share, Used, leaves_room

DAY = date(2026, 12, 1)
NAMED = {"item": "5D002", "parties": ("Acme Pty",), "operator": "Acme Pty", "jurisdiction": "AU"}


def licence(**changes) -> Licence:
    fields = {
        "id": "TAA-0123-26",
        "edition": 1,
        "kind": "TAA",
        "items": ("5D002",),
        "parties": ("Acme Pty", "Carrier"),
        "destinations": ("AU", "GB"),
        "valid_from": "2026-11-01",
        "valid_until": "2026-12-31",
        "quantity": 10,
        "shares": (Share(site="us", quantity=10),),
    }
    return Licence.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({}, True),
        ({"jurisdiction": "AU-NSW"}, True),
        ({"jurisdiction": "NZ"}, False),
        ({"item": "5E002"}, False),
        ({"item": None}, None),
        ({"operator": "Somebody Else"}, False),
        ({"parties": ("Acme Pty", "Somebody Else")}, False),
        ({"parties": ()}, True),
    ],
)
def test_it_covers_what_each_of_its_lists_names_and_nothing_else(changes, covered):
    assert licence().covers(**(NAMED | changes)) is covered


def test_an_empty_list_names_everything():
    assert licence(items=(), parties=(), destinations=()).covers(item=None, parties=("x",), operator="y", jurisdiction="QQ")


@pytest.mark.parametrize(
    ("day", "valid"), [("2026-10-31", False), ("2026-11-01", True), ("2026-12-31", True), ("2027-01-01", False)]
)
def test_it_is_in_force_on_its_first_day_and_on_its_last(day, valid):
    assert licence().is_valid_on(date.fromisoformat(day)) is valid


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"valid_until": "2026-10-01"}, "before valid_from"),
        ({"shares": (Share(site="us", quantity=5), Share(site="us", quantity=5))}, "two shares"),
        ({"shares": (Share(site="us", quantity=6), Share(site="uk", quantity=5))}, "11 together, the licence has 10"),
        ({"shares": (Share(site="us"),)}, "a share of it has none"),
        ({"quantity": None}, "the licence has none"),
        ({"value": 5}, "come together"),
        ({"value": 5, "currency": "EUR", "shares": (Share(site="us", quantity=10),)}, "a share of it has none"),
    ],
)
def test_what_does_not_add_up_is_no_licence(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        licence(**changes)


@given(
    whole=st.integers(1, 30),
    parts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    asked=st.lists(st.integers(0, 3), max_size=60),
)
def test_sites_that_cannot_reach_each_other_never_use_more_than_the_whole_together(whole, parts, asked):
    """Each site counts for itself alone, in any order of releases."""
    try:
        paper = licence(quantity=whole, shares=tuple(Share(site=f"s{n}", quantity=q) for n, q in enumerate(parts)))
    except ValidationError:
        assert sum(parts) > whole
        return
    used = dict.fromkeys(range(len(parts)), 0)
    for site in (number % len(parts) for number in asked):
        if leaves_room(paper.share(SiteName(f"s{site}")), Used(used[site], 0), value=None):
            used[site] += 1

    assert sum(used.values()) <= whole


def test_a_site_without_a_share_may_use_nothing():
    assert leaves_room(licence().share(SiteName("uk")), Used(), value=None) is False


@pytest.mark.parametrize(("used", "value", "room"), [(0, 100, True), (1, 100, False), (0, 101, False), (0, None, None)])
def test_a_limit_of_value_needs_to_know_what_the_goods_are_worth(used, value, room):
    assert leaves_room(Share(site=SiteName("us"), value=100), Used(3, used), value=value) is room


def test_an_assessment_has_an_age_and_one_of_tomorrow_has_none():
    assert licence(assessed_on="2026-11-21").assessment_days(DAY) == 10
    assert licence(assessed_on="2026-12-02").assessment_days(DAY) is None
    assert licence().assessment_days(DAY) is None
