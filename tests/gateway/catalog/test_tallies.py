from datetime import timedelta

import pytest

from carnet.identifiers import Repository
from gateway.records import DeliveryRecord, StoredSegment
from tests.gateway.samples import AGENT, CONSUMER, START, open_catalog, some_segment, transfer, transfer_id

SHARED, OWN = some_segment(1), some_segment(2)


@pytest.fixture
def catalog(tmp_path):
    catalog = open_catalog(tmp_path)
    yield catalog
    catalog.close()


def delivery(number, state, **changes):
    values = {"transfer": transfer_id(number), "destination": "eu", "state": state, "state_at": START + timedelta(hours=number)}
    return DeliveryRecord(**{**values, **changes})


async def test_states_are_counted(catalog):
    def change(t):
        for number, state in enumerate(("declared", "admitted", "admitted")):
            t.save_transfer(transfer(number, state=state))
        t.save_delivery(delivery(1, "delivered"))
        t.save_delivery(delivery(2, "release-hold"))

    await catalog.write(change)

    assert await catalog.read(lambda t: t.count_transfers()) == {"declared": 1, "admitted": 2}
    assert await catalog.read(lambda t: t.count_deliveries()) == {"delivered": 1, "release-hold": 1}


async def test_deliveries_that_wait_are_listed_longest_first_and_others_are_not(catalog):
    def change(t):
        for number, state in enumerate(("delivered", "retrying", "sending", "offer-hold", "held")):
            t.save_transfer(transfer(number, state="admitted"))
            t.save_delivery(delivery(number, state, error="eu did not answer" if state == "retrying" else None))

    await catalog.write(change)
    waiting = await catalog.read(lambda t: t.waiting_deliveries(2))

    assert [(one.state, one.error) for one in waiting] == [("retrying", "eu did not answer"), ("offer-hold", None)]


async def test_jobs_are_tallied_by_kind(catalog):
    def change(t):
        for number in range(3):
            t.queue_job("forward", str(number), delay_s=number)
        job = t.lease_job(["forward"])
        t.retry_job(job, delay_s=60, error="eu did not answer")

    await catalog.write(change)
    [tally] = await catalog.read(lambda t: t.tally_jobs())

    assert (tally.kind, tally.count, tally.failing, tally.attempts_max) == ("forward", 3, 1, 1)
    assert tally.oldest_due == START + timedelta(seconds=1)


async def test_bytes_count_for_their_sender_until_the_commit(catalog):
    def change(t):
        for number, (state, sender) in enumerate(
            [("declared", AGENT), ("receiving", AGENT), ("admitted", AGENT), ("receiving", CONSUMER)]
        ):
            t.save_transfer(transfer(number, state=state, sender=sender, bytes_received=10**number))

    await catalog.write(change)

    assert await catalog.read(lambda t: t.unfinished_bytes(AGENT)) == 11


async def test_segments_are_told_by_who_needs_them(catalog):
    def change(t):
        for number, (state, repository) in enumerate([("receiving", "app"), ("delivered", "app"), ("receiving", "web")]):
            t.save_transfer(transfer(number, state=state, repository=Repository(repository)))
            t.add_segment(transfer_id(number), StoredSegment(id=SHARED, size=10))
        t.add_segment(transfer_id(2), StoredSegment(id=OWN, size=5))

    await catalog.write(change)
    uses = await catalog.read(lambda t: t.segment_uses([SHARED, OWN, some_segment(9)]))

    assert {(use.segment, use.repository, use.users, use.is_delivered) for use in uses} == {
        (SHARED, "app", 2, True),
        (SHARED, "web", 1, False),
        (OWN, "web", 1, False),
    }
    assert await catalog.read(lambda t: t.tally_segments()) == (2, 15)


@pytest.mark.parametrize(
    ("states", "delivered"),
    [
        (["delivered"], True),
        (["delivered", "offer-deny"], True),
        (["delivered", "sending"], False),
        (["held"], False),
        (["needs-rewrap"], False),
    ],
)
async def test_what_still_goes_to_a_site_is_not_delivered(catalog, states, delivered):
    def change(t):
        t.save_transfer(transfer(1, state="admitted"))
        t.add_segment(transfer_id(1), StoredSegment(id=OWN, size=5))
        for number, state in enumerate(states):
            t.save_delivery(delivery(1, state, destination=f"site{number}"))

    await catalog.write(change)

    assert [use.is_delivered for use in await catalog.read(lambda t: t.segment_uses([OWN]))] == [delivered]


async def test_unfinished_bytes_are_those_of_one_sender_or_of_all(catalog):
    def change(t):
        for number, (sender, state) in enumerate([(AGENT, "receiving"), (CONSUMER, "declared"), (AGENT, "admitted")]):
            t.save_transfer(transfer(number, sender=sender, state=state, bytes_received=10**number))

    await catalog.write(change)

    assert await catalog.read(lambda t: (t.unfinished_bytes(AGENT), t.unfinished_bytes())) == (1, 11)
