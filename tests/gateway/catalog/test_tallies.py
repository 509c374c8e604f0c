from datetime import timedelta

import pytest

from gateway.records import DeliveryRecord
from tests.gateway.samples import AGENT, CONSUMER, START, open_catalog, transfer, transfer_id


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
