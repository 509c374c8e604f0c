"""Groups under which something was released: what counts is the last release, and what nobody here knows is not said."""

import pytest

from carnet.encoding import canonical
from carnet.identifiers import SiteName
from carnet.policy import Assurance, Fact
from carnet.policy.replay import DecisionInputs
from gateway.released_under import groups_expired, keep_groups
from tests.gateway.samples import CONSUMER, open_catalog, transfer, transfer_id

HERE, THERE = SiteName("us"), SiteName("eu")


@pytest.fixture
async def catalog(tmp_path):
    opened = open_catalog(tmp_path)
    await opened.write(lambda tx: tx.save_transfer(transfer(1)))
    yield opened
    opened.close()


def facts(*groups: str, kind: str = "gateway", destination: str = THERE, identity: str = "spiffe://x"):
    said = {"recipient.kind": kind, "recipient.identity": identity, "destination.site": destination}
    found = {name: Fact(value, Assurance.DERIVED, "test") for name, value in said.items()}
    return found | ({"recipient.groups": Fact(groups, Assurance.ATTESTED, "test")} if groups else {})


async def released(catalog, *groups: str, party: str = THERE) -> None:
    known = facts(*groups)
    kept = {
        name: {"value": list(one.value) if isinstance(one.value, tuple) else one.value, "assurance": "attested", "source": "t"}
        for name, one in known.items()
    }
    said = {"gate": "release", "policy": "sha256:" + "0" * 64, "facts": kept, "outcome": "allow", "said": "sha256:" + "1" * 64}
    inputs = canonical({"apiVersion": "carnet/inputs/v1", "on": None, **said})
    DecisionInputs.model_validate_json(inputs)
    await catalog.write(lambda tx: keep_groups(tx, transfer_id(1), party, known, inputs))


async def expired(catalog, known, site: SiteName = HERE) -> bool | None:
    fact = await catalog.read(lambda tx: groups_expired(tx, site, transfer_id(1), known))
    return None if fact is None else fact.value


async def test_a_group_that_is_there_no_more_has_expired_and_one_that_came_has_not(catalog):
    await released(catalog, "a", "b")

    assert await expired(catalog, facts("a")) is True
    assert await expired(catalog, facts()) is True
    assert await expired(catalog, facts("a", "b", "c")) is False


async def test_who_was_released_nothing_or_under_no_group_has_none_that_expired(catalog):
    assert await expired(catalog, facts("a")) is False
    await released(catalog)
    assert await expired(catalog, facts()) is False


async def test_the_last_release_counts(catalog):
    await released(catalog, "a")
    await released(catalog, "b")
    assert await expired(catalog, facts("b")) is False
    await released(catalog)
    assert await expired(catalog, facts()) is False


async def test_each_who_pulls_is_asked_about_alone(catalog):
    await released(catalog, "a", party=CONSUMER)

    pulls = {"kind": "agent", "destination": HERE}
    assert await expired(catalog, facts(identity=CONSUMER, **pulls)) is True
    assert await expired(catalog, facts(identity="spiffe://other", **pulls)) is False


async def test_a_destination_does_not_know_under_which_groups_its_origin_released_to_it(catalog):
    await catalog.write(lambda tx: tx.save_transfer(transfer(1, role="destination", state="delivered")))

    assert await expired(catalog, facts("a"), site=THERE) is None
    assert await expired(catalog, {}) is None
