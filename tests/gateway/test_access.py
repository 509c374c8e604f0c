"""Grants, and that nothing is allowed without one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import CallerError, NotAuthorised
from carnet.identifiers import SpiffeId
from gateway.access import ACTIONS, Access, parse_grant
from gateway.records import IdentityRecord

AGENT = SpiffeId("spiffe://example.com/site/us/agent/ci")


def record(*grants):
    return IdentityRecord(identity=AGENT, kind="agent", grants=grants)


def test_an_unknown_identity_may_nothing():
    for action in ACTIONS:
        with pytest.raises(NotAuthorised) as caught:
            Access().require(None, action, "app", "home")

        assert caught.value.code == "E-NOT-ALLOWED"


def test_an_identity_without_grants_may_nothing():
    assert not any(Access().allows(record(), action, "app", "home") for action in ACTIONS)


def test_a_refusal_names_action_repository_and_lane():
    with pytest.raises(NotAuthorised, match=r"ci may not push app/api on lane us-eu"):
        Access().require(record("pull:*@*"), "push", "app/api", "us-eu")


@pytest.mark.parametrize(
    ("grant", "action", "repository", "lane", "allowed"),
    [
        ("push:app/*@us-eu", "push", "app/api", "us-eu", True),
        ("push:app/*@us-eu", "push", "app/deep/api", "us-eu", True),
        ("push:app/*@us-eu", "push", "app", "us-eu", False),
        ("push:app/*@us-eu", "push", "application/x", "us-eu", False),
        ("push:app/*@us-eu", "push", "app/api", "us-eu-2", False),
        ("push:app/*@us-eu", "pull", "app/api", "us-eu", False),
        ("push,pull:*@*", "pull", "anything/at-all", "home", True),
        ("push:app.api@home", "push", "appxapi", "home", False),
        ("push:*/api@h*", "push", "x/y/api", "home", True),
    ],
)
def test_a_grant_allows_what_matches_in_action_repository_and_lane(grant, action, repository, lane, allowed):
    assert Access().allows(record(grant), action, repository, lane) is allowed


def test_two_grants_do_not_combine_into_one():
    half_and_half = record("push:app@home", "pull:app@us-eu")

    assert not Access().allows(half_and_half, "push", "app", "us-eu")


@pytest.mark.parametrize(
    "text",
    ["", "push", "push:app", "push@home", "fly:app@home", "push:app@home@x", "push:APP@home", "push: app@home", "push:[a]@home"],
)
def test_what_is_no_grant_is_refused(text):
    with pytest.raises(CallerError) as caught:
        parse_grant(text)

    assert caught.value.code == "E-USAGE"


@given(st.text(max_size=80))
def test_any_text_is_a_grant_or_refused_cleanly(text):
    with suppress(CallerError):  # anything else fails the test
        assert parse_grant(text).actions <= ACTIONS


@given(st.text(alphabet="ab*/", min_size=1, max_size=24), st.text(alphabet="ab/", min_size=1, max_size=24))
def test_many_stars_match_as_one_would(glob, repository):
    grant = parse_grant(f"push:{glob}@*")
    squeezed = parse_grant(f"push:{'*'.join(piece for piece in glob.split('*'))}@*")

    assert grant.allows("push", repository, "home") == squeezed.allows("push", repository, "home")


def test_where_an_identity_may_look_is_said_by_beginnings_in_order_and_none_within_another():
    known = record("push,pull:team/app*@*", "pull:team/a*@*", "pull:other/one@home", "push:all/*@*", "pull:far/*@us-eu")

    assert Access().beginnings(known, "pull", "home") == ["other/one", "team/a"]
    assert Access().beginnings(record("pull:*/app@*"), "pull", "home") == [""]
    assert Access().beginnings(None, "pull", "home") == []


@given(st.lists(st.text(alphabet="ab*/", min_size=1, max_size=6), max_size=4), st.text(alphabet="ab/", min_size=1, max_size=6))
def test_whatever_is_allowed_begins_with_one_of_the_beginnings(globs, repository):
    known = record(*(f"pull:{glob}@*" for glob in globs))
    beginnings = Access().beginnings(known, "pull", "home")

    begins = [one for one in beginnings if repository.startswith(one)]
    assert len(begins) == 1 if Access().allows(known, "pull", repository, "home") else len(begins) <= 1
