"""What an operator gives ends within the site's bound; changed for an enrolled agent it is logged; what ends soon is told."""

from datetime import UTC, date, datetime, timedelta

import pytest

from carnet.entries import EntryType
from carnet.errors import CallerError, CapacityError
from carnet.identifiers import SiteName
from gateway.doctor.findings import Severity
from gateway.doctor.rights import examine_rights
from gateway.expiries import RightsEnd, rights_end
from gateway.granting import NO_END, Ends, change_grants, dated
from gateway.records import IdentityRecord
from gateway.revoking import revoke_identity
from tests.gateway.test_enrolment import CI, entries, invite_for, request_of

TODAY = date(2026, 11, 24)
YEAR = Ends(days_max=365)


async def enrolled(world, *grants, **more):
    await world.enrolment.enroll(request_of(await invite_for(world, grants=grants, **more)))


async def given(world):
    return (await world.catalog.read(lambda tx: tx.identity(CI))).grants


async def change(world, grants, ends=NO_END, today=TODAY):
    return await world.catalog.write(lambda tx: change_grants(tx, CI, grants, ends, today))


async def found(world):
    return await world.catalog.read(lambda tx: list(examine_rights(tx, world.clock.now())))


def test_a_right_ends_on_its_own_day_or_the_one_named_or_the_last_that_the_site_allows():
    grants = ("sender:a@*", "pull:b@*,until=2027-03-31")

    assert dated(grants, NO_END, TODAY) == grants
    assert dated(grants, YEAR, TODAY) == ("sender:a@*,until=2027-11-24", "pull:b@*,until=2027-03-31")
    assert dated(("sender:a@*",), Ends(until=TODAY, days_max=365), TODAY) == ("sender:a@*,until=2026-11-24",)


@pytest.mark.parametrize("text", ["push:a@*,until=2027-11-25", "push:a@*,until=9999-12-31"])
def test_nothing_is_given_for_longer_than_the_site_allows(text):
    with pytest.raises(CapacityError, match="2027-11-24") as caught:
        dated((text,), YEAR, TODAY)

    assert (caught.value.code, caught.value.limit) == ("E-LIMIT", "agent_days")
    assert dated((text,), NO_END, TODAY) == (text,)


def test_an_end_that_is_over_and_two_ends_at_once_are_slips():
    for text, ends in (
        ("push:a@*,until=2026-11-23", NO_END),
        ("push:a@*", Ends(until=date(2026, 11, 23))),
        ("push:a@*,until=2027-01-01", Ends(until=date(2027, 1, 2))),
        ("shipper:a@*", NO_END),
    ):
        with pytest.raises(CallerError) as caught:
            dated((text,), ends, TODAY)
        assert caught.value.code == "E-USAGE"
    assert dated(("push:a@*,until=2027-01-01",), Ends(until=date(2027, 1, 1)), TODAY) == ("push:a@*,until=2027-01-01",)


async def test_an_invite_gives_what_ends_and_so_does_the_enrolment_by_it(world):
    await enrolled(world, "sender:app/*@us-eu", ends=Ends(until=date(2027, 3, 31), days_max=365))

    assert await given(world) == ("sender:app/*@us-eu,until=2027-03-31",)


async def test_a_clock_that_was_set_back_gives_no_longer_right(world):
    """The bound counts from the latest time that there is proof of."""
    world.trust.floor.raise_to(world.clock.now() + timedelta(days=30))

    with pytest.raises(CallerError, match="is over"):
        await invite_for(world, grants=("push:*@*,until=2026-12-01",))


async def test_the_rights_of_an_enrolled_agent_are_replaced_in_one_logged_step(world):
    await enrolled(world, "push:app/*@us-eu")
    before = await world.catalog.read(lambda tx: tx.log_size())

    await change(world, ("consumer:app/*@home",), YEAR)

    assert await given(world) == ("consumer:app/*@home,until=2027-11-24",)
    assert await world.catalog.read(lambda tx: tx.log_size()) == before + 1
    assert EntryType.AGENT_GRANTED.encode() in await entries(world)


async def test_another_end_keeps_what_the_rights_are(world):
    await enrolled(world, "sender:app/*@us-eu,until=2026-12-01", "pull:*@home,until=2026-12-05")

    await change(world, None, Ends(until=date(2027, 3, 31), days_max=365))

    assert await given(world) == ("sender:app/*@us-eu,until=2027-03-31", "pull:*@home,until=2027-03-31")


async def test_rights_that_all_ended_are_prolonged_and_one_of_several_is_not_by_mistake(world):
    await enrolled(world, "push:*@*,until=2026-11-25", "pull:*@home,until=2026-12-05")
    later = Ends(until=date(2027, 3, 31))

    with pytest.raises(CallerError, match="which are meant is not clear"):
        await change(world, None, later, today=date(2026, 12, 1))
    assert await given(world) == ("push:*@*,until=2026-11-25", "pull:*@home,until=2026-12-05")
    await change(world, None, later, today=date(2026, 12, 10))
    assert await given(world) == ("push:*@*,until=2027-03-31", "pull:*@home,until=2027-03-31")


async def test_a_change_that_is_refused_changes_and_logs_nothing(world):
    await enrolled(world, "push:app/*@us-eu")
    for grants, ends in ((("shipper:*@*",), NO_END), (("push:*@*,until=2030-01-01",), YEAR)):
        with pytest.raises((CallerError, CapacityError)):
            await change(world, grants, ends)

    assert await given(world) == ("push:app/*@us-eu",)
    assert EntryType.AGENT_GRANTED.encode() not in await entries(world)


async def test_who_is_not_enrolled_or_revoked_is_given_nothing(world):
    with pytest.raises(CallerError, match="no agent ci is enrolled"):
        await change(world, ("push:*@*",))
    await enrolled(world, "push:app/*@us-eu")
    key = world.keyring.signing
    await world.catalog.write(lambda tx: revoke_identity(tx, key, SiteName("us"), CI, "key-stolen"))

    with pytest.raises(CallerError, match="was revoked"):
        await change(world, ("push:*@*",))
    assert await given(world) == ("push:app/*@us-eu",)
    assert [one.severity for one in await found(world)] == [Severity.OK]


def test_the_next_end_is_told_or_the_last_one_if_nothing_is_left():
    record = IdentityRecord(
        identity=CI,
        kind="agent",
        grants=("push:a@*,until=2027-01-01", "pull:b@*,until=2027-02-01", "inspect:c@*,until=2026-01-01"),
    )
    endless = IdentityRecord(identity=CI, kind="agent", grants=("push:a@*,until=2026-01-01", "pull:b@*"))

    assert rights_end(record, datetime(2027, 1, 1, 23, tzinfo=UTC)) == RightsEnd("push:a@*,until=2027-01-01", date(2027, 1, 1))
    assert rights_end(record, datetime(2027, 1, 2, tzinfo=UTC)) == RightsEnd("pull:b@*,until=2027-02-01", date(2027, 2, 1))
    assert rights_end(record, datetime(2027, 2, 2, tzinfo=UTC)) == RightsEnd("pull:b@*,until=2027-02-01", date(2027, 2, 1))
    assert rights_end(endless, datetime(2027, 1, 1, tzinfo=UTC)) is None


async def test_the_doctor_warns_two_weeks_before_rights_end_and_once_all_have(world):
    await enrolled(world, "push:app/*@us-eu,until=2026-12-10", "pull:*@*,until=2026-12-20")

    world.clock.advance(days=2)
    [well] = await found(world)
    assert (well.code, well.severity, well.said) == ("D-EXPIRY", Severity.OK, "the rights of 1 agents last")
    world.clock.advance(days=1)
    [soon] = await found(world)
    assert (soon.code, soon.severity) == ("D-EXPIRY", Severity.WARN)
    assert soon.said == "push:app/*@us-eu,until=2026-12-10 of agent ci ends on 2026-12-10"
    assert "carnet-gateway agent grant DIR ci --until DAY" in soon.fix
    world.clock.advance(days=24)
    [over] = await found(world)
    assert over.said == "all rights of agent ci have ended, the last on 2026-12-20"


async def test_a_grant_that_this_version_cannot_read_is_told(world):
    await enrolled(world, "push:app/*@us-eu")
    odd = IdentityRecord(identity=CI, kind="agent", grants=("push:app/*@us-eu", "shipper:*@*"))
    await world.catalog.write(lambda tx: tx.save_identity(odd))

    [finding] = await found(world)

    assert finding.severity is Severity.WARN
    assert "cannot be read by this version" in finding.said
