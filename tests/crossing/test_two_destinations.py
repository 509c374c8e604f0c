"""One push to two sites: each decides for itself, each delivers when it can, and a recall is acknowledged by each."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.enroll import enroll
from agent.push import PushOrder, Wait, check
from agent.recall import is_acknowledged, recall
from agent.session import open_session
from agent.sources import open_source
from carnet.envelope import parse_envelope
from carnet.errors import Refused
from carnet.identifiers import Digest, Repository, SiteName, Tag
from carnet.messages import DeliveryView, TransferView
from carnet.receipt import Receipt
from carnet.waybill import Declarations
from tests.attacks.parties import noise
from tests.crossing.sites import LANE, POLICIES, LiveSite, World, invite_agent, know_each_other, make_template, world_from

BOTH = (SiteName("eu"), SiteName("jp"))
NAME = (Repository("app"), Tag("v1"))
DEADLINE_S = 60.0
UNWANTED_AT_JP = POLICIES["eu"].replace("{purpose: deny-me}", "{purpose: deploy}")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sites us, eu and jp, and a lane from us to both others."""
    root = tmp_path_factory.mktemp("pair")
    asyncio.run(make_template(root, "us-eu=us:eu,jp", ("jp",)))
    return root


@pytest.fixture
async def cold(pair: Path, tmp_path: Path) -> AsyncIterator[World]:
    """All three, not started; jp decides as eu does."""
    async with world_from(pair, tmp_path / "world", start=False) as made:
        made.relays["jp"].set_policy(POLICIES["eu"])
        yield made


@pytest.fixture
async def world(cold: World) -> World:
    """All three, running."""
    await cold.start()
    await know_each_other(cold, {*BOTH, SiteName("us")})
    return cold


def by_site(view: TransferView) -> dict[str, DeliveryView]:
    """Return the deliveries of a transfer by their destinations."""
    return {delivery.destination: delivery for delivery in view.deliveries}


async def enrolled(site: LiveSite) -> LiveSite:
    """Return the site once it has an agent too."""
    await enroll(await invite_agent(site, "agent"), site.agent_dir / "identity", datetime.now(UTC))
    return site


async def test_one_push_is_delivered_and_pulled_bit_for_bit_at_both(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 2_000_000)

    result = await world.push(f"file:{source}", "eu:app:v1", destinations=BOTH, timeout_s=60)

    assert {site: one.state for site, one in by_site(result.view).items()} == {"eu": "delivered", "jp": "delivered"}
    there = await enrolled(world.relays["jp"])
    for site in (world.eu, there):
        await world.pull(site, "app:v1", f"file:{tmp_path / site.name}")
        assert (tmp_path / site.name).read_bytes() == source.read_bytes()


async def test_one_refuses_and_the_other_delivers(cold: World, tmp_path: Path) -> None:
    cold.relays["jp"].set_policy(UNWANTED_AT_JP)
    await cold.start()
    await know_each_other(cold, {*BOTH, SiteName("us")})

    result = await cold.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", destinations=BOTH, timeout_s=60)

    assert {site: one.state for site, one in by_site(result.view).items()} == {"eu": "delivered", "jp": "denied"}
    assert by_site(result.view)["jp"].reasons[0].rule == "unwanted"
    assert cold.relays["jp"].stored() == []


async def test_one_that_is_down_does_not_hold_up_the_other(world: World, tmp_path: Path) -> None:
    await world.relays["jp"].stop()
    result = await world.push(
        f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1", destinations=BOTH, wait=Wait.DECIDED, timeout_s=60
    )
    transfer = result.view.transfer
    view = await world.until(transfer, lambda one: by_site(one)["eu"].state == "delivered", DEADLINE_S)
    assert by_site(view)["jp"].state != "delivered"

    await world.relays["jp"].start()

    await world.until(transfer, lambda one: by_site(one)["jp"].state == "delivered", DEADLINE_S)


async def test_a_recall_is_acknowledged_by_each_with_a_receipt_of_its_own(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 2_000_000)}", "eu:app:v1", destinations=BOTH, timeout_s=60)
    await world.relays["jp"].stop()
    async with open_session(world.us.agent, connections=1) as session:
        [view] = await recall(session, NAME, "wrong branch")
    transfer = result.view.transfer

    view = await world.until(transfer, lambda one: _receipt(by_site(one)["eu"]) is not None, DEADLINE_S)
    assert not is_acknowledged(view), "jp has not said a word"
    assert _receipt(by_site(view)["jp"]) is None
    assert world.eu.stored() == []
    await world.relays["jp"].start()
    view = await world.until(transfer, is_acknowledged, DEADLINE_S)

    receipts = {site: _receipt(one) for site, one in by_site(view).items()}
    assert {site: receipt.site for site, receipt in receipts.items() if receipt is not None} == {"eu": "eu", "jp": "jp"}
    assert world.relays["jp"].stored() == world.us.stored() == []
    with pytest.raises(Refused, match="E-RECALLED"):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'after'}")


async def test_what_one_destination_recalls_for_itself_stays_at_the_other(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 300_000)
    result = await world.push(f"file:{source}", "eu:app:v1", destinations=BOTH, timeout_s=60)
    digest = result.view.digest
    assert digest is not None
    there = await enrolled(world.relays["jp"])

    async with open_session(there.agent, connections=1) as session:
        await recall(session, Digest(digest), "not allowed here")
    await world.until(result.view.transfer, lambda one: by_site(one)["jp"].state == "recalled", DEADLINE_S)
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert there.stored() == []


def _receipt(delivery: DeliveryView) -> Receipt | None:
    found = delivery.recall
    if found is None or found.receipt is None:
        return None
    return Receipt.read_unverified(parse_envelope(found.receipt))


JP_IS_TOLD = """\
  - id: jp-is-told
    at: [offer]
    when: {destination.site: jp}
    unless: {label.jp: told}
    effect: hold
    reason: jp wants to be told
    remedy: tell jp
"""


async def test_of_two_destinations_a_thing_that_one_lacks_names_it(cold: World, tmp_path: Path) -> None:
    cold.us.set_policy(f"{POLICIES['us']}{JP_IS_TOLD}")
    await cold.start()
    await know_each_other(cold, {*BOTH, SiteName("us")})
    source = open_source(f"file:{noise(tmp_path / 'a', 1000)}", kind=None)
    order = PushOrder(lane=LANE, destinations=BOTH, repository=NAME[0], tag=NAME[1], declarations=Declarations(purpose="deploy"))

    async with open_session(cold.us.agent) as session:
        both = (await check(session, source, order)).advice
        one = (await check(session, source, replace(order, destinations=BOTH[1:]))).advice

    assert (both.outcome, both.prospect) == (one.outcome, one.prospect) == ("hold", "listed")
    assert [(one.what, one.destination) for one in both.missing] == [("artifact.classification", None), ("label.jp", "jp")]
    assert [(one.what, one.destination) for one in one.missing] == [("artifact.classification", None), ("label.jp", None)]
