"""Access, and that nothing is allowed without a grant that is in force."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import NotAuthorised
from carnet.identifiers import SpiffeId
from gateway.access import Access
from gateway.grants import ACTIONS, ROLES, parse_grant
from gateway.records import IdentityRecord

AGENT = SpiffeId("spiffe://example.com/site/us/agent/ci")
PERSON = SpiffeId("spiffe://example.com/site/us/person/ada")
LAST_DAY = date(2027, 3, 31)
MIDNIGHT = datetime(2027, 4, 1, tzinfo=UTC)
JUST_BEFORE = MIDNIGHT - timedelta(microseconds=1)


def record(*grants):
    return IdentityRecord(identity=AGENT, kind="agent", grants=grants)


def access(now=JUST_BEFORE):
    return Access(lambda: now)


def test_an_unknown_identity_may_nothing():
    for action in ACTIONS:
        with pytest.raises(NotAuthorised) as caught:
            access().require(None, action, "app", "home")

        assert caught.value.code == "E-NOT-ALLOWED"


def test_an_identity_without_grants_may_nothing():
    assert not any(access().allows(record(), action, "app", "home") for action in ACTIONS)


def test_a_refusal_names_action_repository_and_lane():
    with pytest.raises(NotAuthorised, match=r"ci may not push app/api on lane us-eu"):
        access().require(record("pull:*@*"), "push", "app/api", "us-eu")


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
        ("sender:app/*@us-eu", "push", "app/api", "us-eu", True),
        ("sender:app/*@us-eu", "inspect", "app/api", "us-eu", True),
        ("sender:app/*@us-eu", "pull", "app/api", "us-eu", False),
        ("consumer,approve:app/*@*", "approve", "app/api", "us-eu", True),
        ("consumer,approve:app/*@*", "push", "app/api", "us-eu", False),
        ("maintainer:*@*", "admin", "*", "*", False),
        ("operator:*@*", "admin", "*", "*", True),
        ("operator:*@*", "approve", "app", "us-eu", False),
    ],
)
def test_a_grant_allows_what_matches_in_action_repository_and_lane(grant, action, repository, lane, allowed):
    assert access().allows(record(grant), action, repository, lane) is allowed


def test_two_grants_do_not_combine_into_one():
    half_and_half = record("push:app@home", "pull:app@us-eu")

    assert not access().allows(half_and_half, "push", "app", "us-eu")


def test_a_role_allows_what_its_actions_allow_and_nothing_else():
    for role, actions in ROLES.items():
        for action in ACTIONS:
            assert access().allows(record(f"{role}:app@home"), action, "app", "home") is (action in actions), (role, action)


def test_a_right_is_there_until_the_last_moment_of_its_day_and_not_after():
    ending = record(f"push:app@home,until={LAST_DAY}")

    assert access(JUST_BEFORE).allows(ending, "push", "app", "home")
    assert not access(MIDNIGHT).allows(ending, "push", "app", "home")


def test_the_day_is_that_of_utc_wherever_the_clock_is():
    from datetime import timezone

    ending = record(f"push:app@home,until={LAST_DAY}")
    behind, ahead = timezone(-timedelta(hours=11)), timezone(timedelta(hours=13))

    assert not access(MIDNIGHT.astimezone(behind)).allows(ending, "push", "app", "home")
    assert access(JUST_BEFORE.astimezone(ahead)).allows(ending, "push", "app", "home")


def test_one_access_judges_each_request_by_the_time_of_that_request():
    times = iter([JUST_BEFORE, MIDNIGHT])
    judging = Access(lambda: next(times))
    ending = record(f"push:app@home,until={LAST_DAY}")

    assert [judging.allows(ending, "push", "app", "home") for _ in range(2)] == [True, False]


def test_a_refusal_for_a_right_that_ended_says_the_day_and_how_to_prolong_it():
    with pytest.raises(NotAuthorised) as caught:
        access(MIDNIGHT).require(record("sender:app/*@us-eu,until=2027-03-31"), "push", "app/api", "us-eu")

    assert caught.value.code == "E-NOT-ALLOWED"
    assert caught.value.problem == "agent ci may not push app/api on lane us-eu: that right ended on 2027-03-31"
    assert "carnet-gateway agent grant DIR ci --until DAY" in caught.value.remedy


def test_of_several_rights_that_ended_the_last_day_is_told():
    two = record("push:*@*,until=2026-01-01", "sender:app@home,until=2027-01-01", "pull:*@*,until=2027-02-02")

    with pytest.raises(NotAuthorised, match=r"ended on 2027-01-01"):
        access(MIDNIGHT).require(two, "push", "app", "home")


def test_a_person_is_not_sent_to_a_command_for_agents():
    known = IdentityRecord(identity=PERSON, kind="person", grants=("pull:*@*,until=2026-01-01",))

    with pytest.raises(NotAuthorised) as caught:
        access().require(known, "pull", "app", "home")

    assert "agent grant" not in caught.value.remedy


def test_only_a_right_that_was_there_is_said_to_have_ended():
    ended = record("push:app@home,until=2026-01-01")
    judging = access()

    judging.refuse_ended(ended, "push", "other", "home")
    judging.refuse_ended(ended, "pull", "app", "home")
    judging.refuse_ended(None, "push", "app", "home")
    judging.refuse_ended(record("push:app@home,until=2026-01-01", "push:*@*"), "push", "app", "home")
    judging.refuse_ended_action(record("admin:*@*,until=2026-01-01", "operator:app@home"), "admin")
    judging.refuse_ended_action(ended, "admin")
    with pytest.raises(NotAuthorised, match="ended on 2026-01-01"):
        judging.refuse_ended_action(ended, "push")


def test_a_grant_that_cannot_be_read_gives_nothing_and_takes_nothing():
    mixed = record("shipper:*@*", "push:app@home", "nonsense")

    assert access().allows(mixed, "push", "app", "home")
    assert not access().allows(mixed, "push", "other", "home")
    assert not access().acts(record("shipper:*@*"), "push")
    with pytest.raises(NotAuthorised, match=r"may not pull app on lane home \[E-NOT-ALLOWED\]$"):
        access().require(mixed, "pull", "app", "home")


def test_where_an_identity_may_look_is_said_by_beginnings_in_order_and_none_within_another():
    known = record("push,pull:team/app*@*", "pull:team/a*@*", "pull:other/one@home", "push:all/*@*", "pull:far/*@us-eu")

    assert access().beginnings(known, "pull", "home") == ["other/one", "team/a"]
    assert access().beginnings(record("pull:*/app@*"), "pull", "home") == [""]
    assert access().beginnings(record("consumer:app@*", "pull:old/*@*,until=2026-01-01"), "pull", "home") == ["app"]
    assert access().beginnings(None, "pull", "home") == []


@given(st.lists(st.text(alphabet="ab*/", min_size=1, max_size=6), max_size=4), st.text(alphabet="ab/", min_size=1, max_size=6))
def test_whatever_is_allowed_begins_with_one_of_the_beginnings(globs, repository):
    known = record(*(f"pull:{glob}@*" for glob in globs))
    beginnings = access().beginnings(known, "pull", "home")

    begins = [one for one in beginnings if repository.startswith(one)]
    assert len(begins) == 1 if access().allows(known, "pull", repository, "home") else len(begins) <= 1


WORDS = st.lists(st.sampled_from([*ACTIONS, *ROLES]), min_size=1, max_size=3).map(",".join)
GLOBS = st.text(alphabet="ab*", min_size=1, max_size=4)
DAYS = st.dates(min_value=date(2027, 3, 29), max_value=date(2027, 4, 2))
ENDS = st.just("") | DAYS.map(lambda day: f",until={day}")
GRANTS = st.builds(lambda words, repositories, lanes, end: f"{words}:{repositories}@{lanes}{end}", WORDS, GLOBS, GLOBS, ENDS)
MOMENTS = st.datetimes(min_value=datetime(2027, 3, 28), max_value=datetime(2027, 4, 3), timezones=st.just(UTC))  # noqa: DTZ001
NAMES = st.text(alphabet="ab", min_size=1, max_size=4)


def everything(known, repository, lane, now):
    return {action for action in ACTIONS if access(now).allows(known, action, repository, lane)}


@given(st.lists(GRANTS, max_size=3), GRANTS, DAYS, NAMES, NAMES, MOMENTS)
def test_an_end_or_an_earlier_one_never_allows_more(others, text, day, repository, lane, now):
    grant = parse_grant(text)
    ended = grant.ending(day if grant.until is None else min(day, grant.until))

    before = everything(record(*others, text), repository, lane, now)
    assert everything(record(*others, str(ended)), repository, lane, now) <= before


@given(st.lists(GRANTS, max_size=3), GRANTS, st.data(), NAMES, NAMES, MOMENTS)
def test_a_narrower_grant_never_allows_more(others, text, data, repository, lane, now):
    """Fewer words, a role for one action of it, a star written out, or the grant left out: each only takes away."""
    grant = parse_grant(text)
    words = data.draw(st.lists(st.sampled_from([*grant.words, *sorted(grant.actions)]), min_size=1, max_size=3))
    globs = [
        "".join(data.draw(GLOBS) if char == "*" else char for char in glob) for glob in (grant.repository_glob, grant.lane_glob)
    ]
    end = "" if grant.until is None else f",until={grant.until}"
    narrower = f"{','.join(words)}:{globs[0]}@{globs[1]}{end}"

    before = everything(record(*others, text), repository, lane, now)
    assert everything(record(*others, narrower), repository, lane, now) <= before
    assert everything(record(*others), repository, lane, now) <= before


@given(st.lists(GRANTS, max_size=3), NAMES, NAMES, MOMENTS, st.integers(min_value=0, max_value=10))
def test_time_alone_never_gives_a_right(grants, repository, lane, now, days):
    known = record(*grants)

    before = everything(known, repository, lane, now)
    assert everything(known, repository, lane, now + timedelta(days=days)) <= before
