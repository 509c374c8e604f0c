"""The ledger: one release is counted once, given back once, and never once its key may have left."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.identifiers import SiteName
from carnet.licence import Licence, Used
from gateway import documents
from gateway.ledger import credit, debit, total_used, used_without, uses
from tests.gateway.samples import open_catalog, transfer, transfer_id

EU, UK = SiteName("eu"), SiteName("uk")
LICENCE = Licence.model_validate(
    {
        "id": "TAA-7",
        "edition": 1,
        "kind": "TAA",
        "valid_from": "2026-11-01",
        "valid_until": "2026-12-31",
        "quantity": 9,
        "shares": [{"site": "us", "quantity": 9}],
    }
)


@pytest.fixture
async def catalog(tmp_path):
    opened = open_catalog(tmp_path)
    await opened.write(lambda tx: [tx.save_transfer(transfer(number)) for number in (1, 2)])
    yield opened
    opened.close()


async def test_a_release_is_counted_once_for_each_destination_however_often_it_is_decided(catalog):
    def change(tx):
        for destination in (EU, EU, UK):
            debit(tx, LICENCE, transfer_id(1), destination, value=5)
        return total_used(tx, "TAA-7"), used_without(tx, "TAA-7", transfer_id(1), EU), len(uses(tx, "TAA-7"))

    assert await catalog.write(change) == (Used(2, 10), Used(1, 5), 2)


async def test_what_is_given_back_is_given_back_once_and_the_use_is_not_forgotten(catalog):
    def change(tx):
        debit(tx, LICENCE, transfer_id(1), EU, value=5)
        for why in ("cancelled", "expired"):
            credit(tx, transfer_id(1), EU, why)
        return total_used(tx, "TAA-7"), [one.credited for one in uses(tx, "TAA-7")]

    assert await catalog.write(change) == (Used(0, 0), ["cancelled"])


async def test_a_key_that_may_have_left_is_not_given_back(catalog):
    def change(tx):
        debit(tx, LICENCE, transfer_id(1), EU, value=5)
        tx.put_document(transfer_id(1), documents.key_sent_name(EU), b"7")
        credit(tx, transfer_id(1), EU, "cancelled")
        return total_used(tx, "TAA-7")

    assert await catalog.write(change) == Used(1, 5)


async def test_what_used_no_licence_gives_nothing_back(catalog):
    def change(tx):
        credit(tx, transfer_id(1), EU, "cancelled")
        return total_used(tx, "TAA-7"), tx.log_size()

    assert await catalog.write(change) == (Used(), 0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from((1, 2)), st.sampled_from((EU, UK))), max_size=30))
def test_the_total_is_the_sum_of_the_uses_that_were_not_given_back(steps):
    def change(tx):
        for number in (1, 2):
            tx.save_transfer(transfer(number))
        for is_debit, number, destination in steps:
            if is_debit:
                debit(tx, LICENCE, transfer_id(number), destination, value=3)
            else:
                credit(tx, transfer_id(number), destination, "expired")
        open_uses = [one for one in uses(tx, "TAA-7") if one.credited is None]
        return total_used(tx, "TAA-7"), Used(len(open_uses), sum(one.value for one in open_uses))

    async def run():
        with tempfile.TemporaryDirectory() as directory:
            opened = open_catalog(Path(directory))
            try:
                return await opened.write(change)
            finally:
                opened.close()

    total, counted = asyncio.run(run())
    assert total == counted
