"""Grants as texts: what is one, what each word stands for, and that reading and writing are the same."""

from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import CallerError
from gateway.grants import ACTIONS, ROLES, parse_day, parse_grant

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "push",
        "push:app",
        "push@home",
        "fly:app@home",
        "push:app@home@x",
        "push:APP@home",
        "push: app@home",
        "push:[a]@home",
        "push:app@home,",
        "push:app@home,until=",
        "push:app@home,until=2027-3-31",
        "push:app@home,until=20270331",
        "push:app@home,until=2027-02-29",
        "push:app@home,until=2027-W13-3",
        "push:app@home,until=0000-01-01",
        "push:app@home,until=2027-03-31T00:00:00Z",
        "push:app@home,until=2027-03-31,until=2028-03-31",
        "push:app@home,till=2027-03-31",
        "push:app@home until 2027-03-31",
        "push:app@home\n",
        "push:app@home,until=٢٠٢٧-03-31",
    ],
)
def test_what_is_no_grant_is_refused(text):
    with pytest.raises(CallerError) as caught:
        parse_grant(text)

    assert caught.value.code == "E-USAGE"
    assert caught.value.remedy


def test_an_unknown_role_is_refused_with_all_that_there_are():
    with pytest.raises(CallerError, match="no such action or role: shipper") as caught:
        parse_grant("pull,shipper:app@home")

    for word in (*ACTIONS, *ROLES):
        assert word in caught.value.remedy


def test_the_roles_are_these():
    """Whoever was given a role has what it stands for: a change here changes rights at every site."""
    assert {role: ",".join(sorted(actions)) for role, actions in ROLES.items()} == {
        "consumer": "pull",
        "sender": "inspect,push",
        "developer": "inspect,pull,push",
        "maintainer": "delete,inspect,pull,push",
        "approver": "approve",
        "operator": "admin",
    }


def test_roles_stand_for_actions_that_there_are_and_share_no_name_with_them():
    assert not ROLES.keys() & ACTIONS.keys()
    assert frozenset().union(*ROLES.values()) == ACTIONS.keys()


def test_a_grant_keeps_the_role_as_it_was_written():
    grant = parse_grant("sender,delete:team/*@eu-jp,until=2027-03-31")

    assert (grant.words, grant.actions) == (("sender", "delete"), {"push", "inspect", "delete"})
    assert (grant.repository_glob, grant.lane_glob, grant.until) == ("team/*", "eu-jp", date(2027, 3, 31))
    assert str(grant) == "sender,delete:team/*@eu-jp,until=2027-03-31"
    assert str(grant.ending(date(2028, 1, 2))) == "sender,delete:team/*@eu-jp,until=2028-01-02"
    assert str(grant.ending(None)) == "sender,delete:team/*@eu-jp"


def test_the_last_day_that_there_is_ends_too():
    last = parse_grant("push:app@home,until=9999-12-31")

    assert not last.has_ended(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))


def test_a_day_is_of_the_calendar_or_refused():
    assert parse_day("2028-02-29") == date(2028, 2, 29)
    for text in ("2027-02-29", "tomorrow", "2027-2-1", "", " 2027-02-01", "2027-02-01\n"):
        with pytest.raises(CallerError, match="not a day"):
            parse_day(text)


@given(st.text(max_size=80) | st.text(alphabet="pushl:,@*/ab=until0123-", max_size=60))
def test_any_text_is_a_grant_or_refused_cleanly(text):
    with suppress(CallerError):  # anything else fails the test
        grant = parse_grant(text)
        assert grant.actions <= ACTIONS.keys()
        assert str(grant) == text


@given(
    st.lists(st.sampled_from([*ACTIONS, *ROLES]), min_size=1, max_size=4).map(tuple),
    st.text(alphabet="ab09._/*-", min_size=1, max_size=30),
    st.text(alphabet="ab09*-", min_size=1, max_size=20),
    st.none() | st.dates(),
)
def test_what_is_written_is_read_as_it_was(words, repositories, lanes, until):
    text = f"{','.join(words)}:{repositories}@{lanes}" + ("" if until is None else f",until={until.isoformat()}")

    grant = parse_grant(text)
    assert (grant.words, grant.repository_glob, grant.lane_glob, grant.until) == (words, repositories, lanes, until)
    assert str(grant) == text
    assert parse_grant(str(grant)) == grant


@given(st.text(alphabet="ab*/", min_size=1, max_size=24), st.text(alphabet="ab/", min_size=1, max_size=24))
def test_many_stars_match_as_one_would(glob, repository):
    grant = parse_grant(f"push:{glob}@*")
    squeezed = parse_grant(f"push:{'*'.join(piece for piece in glob.split('*'))}@*")

    assert grant.allows("push", repository, "home", NOW) == squeezed.allows("push", repository, "home", NOW)
