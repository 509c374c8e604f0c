"""Policies signed by two owners: whoever can write to a site's disk does not change by what rules it decides."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.errors import CallerError
from carnet.flow.commandline import run
from carnet.identifiers import AgentName
from carnet.keys import encode_private_key
from gateway.cli import build_app
from gateway.offline import open_site
from gateway.proposals import Change, propose, sign_proposal, unsigned
from tests.crossing.officers import KEYS, PEOPLE, ROOT_KEY
from tests.crossing.sites import LiveSite, World, know_each_other
from tests.promises.kills import noise

OPEN = """
apiVersion: carnet/policy/v1
metadata: {id: open, version: 1, owner: root on this gateway}
rules:
  - {id: all, at: [offer, release, receipt], effect: allow, reason: whatever}
"""
OFFER = "  - {id: seen, at: [offer], effect: hold, reason: look, remedy: look, approvals: [{role: security}]}\n"


async def name_owners(world: World, *names: str) -> None:
    for site in world.sites:
        async with open_site(site.directory) as opened:
            change = Change(people=PEOPLE, policy_owners=tuple(AgentName(name) for name in names))
            bundle = propose(opened.trust.current(), change, datetime.now(UTC))
            await opened.trust.import_bundle(sign_proposal(unsigned(bundle), ROOT_KEY).encode(), root_fingerprint=None)


def sign(site: LiveSite, tmp_path: Path, *names: str) -> None:
    for name in names:
        key = tmp_path / f"{name}.key"
        key.write_text(encode_private_key(KEYS[name]))
        key.chmod(0o600)
        assert run(build_app(), "carnet-gateway", ["policy", "sign", str(site.directory / "policy"), "--key", str(key)]) == 0


async def push(world: World, tmp_path: Path, number: int = 1):
    source = noise(tmp_path / f"{number}", 1000, number)
    return (
        await world.push(f"file:{source}", f"eu:app:v{number}", declare={"classification": "internal", "purpose": "deploy"})
    ).view


@pytest.fixture
async def owned(cold_world: World, tmp_path: Path) -> World:
    """Return two sites whose policies belong to ada, bob and carol; that of eu is signed."""
    await name_owners(cold_world, "ada", "bob", "carol")
    cold_world.us.set_policy(OPEN)
    await asyncio.to_thread(sign, cold_world.eu, tmp_path, "bob", "carol")
    return cold_world


async def test_what_two_owners_signed_decides(owned: World, tmp_path: Path):
    await asyncio.to_thread(sign, owned.us, tmp_path, "ada", "bob")
    await owned.start()
    view = await push(owned, tmp_path)

    assert view.deliveries[0].state == "delivered"


@pytest.mark.parametrize("names", [(), ("ada",), ("ada", "dora"), ("dora", "olga")])
async def test_what_fewer_signed_or_others_only_holds(owned: World, tmp_path: Path, names: tuple[str, ...]):
    await asyncio.to_thread(sign, owned.us, tmp_path, *names)
    await owned.start()
    [delivery] = (await push(owned, tmp_path)).deliveries

    assert (delivery.state, delivery.reasons[0].rule) == ("offer-hold", "policy-unsigned")
    assert "needs two of its owners (ada, bob, carol)" in delivery.reasons[0].text


async def test_a_policy_that_root_swapped_after_it_was_signed_decides_nothing(owned: World, tmp_path: Path):
    await asyncio.to_thread(sign, owned.us, tmp_path, "ada", "bob")
    owned.us.set_policy(OPEN.replace("whatever", "root says so"))
    await owned.start()
    [delivery] = (await push(owned, tmp_path)).deliveries

    assert (delivery.state, delivery.reasons[0].rule) == ("offer-hold", "policy-unsigned")
    assert "signed by none of them" in delivery.reasons[0].text


async def test_a_policy_swapped_between_offer_and_release_lets_no_key_go(owned: World, tmp_path: Path):
    look = "{id: look, at: [release], effect: hold, reason: look, remedy: look, approvals: [{role: security}]}"
    owned.us.set_policy(f"{OPEN}  - {look}\n")
    await asyncio.to_thread(sign, owned.us, tmp_path, "ada", "bob")
    await owned.start()
    held = await push(owned, tmp_path)
    assert held.deliveries[0].state == "release-hold"
    await owned.us.stop()
    owned.us.set_policy(OPEN)  # root: nobody has to look any more
    await owned.us.start()
    await know_each_other(owned)
    async with open_session(owned.us.agent) as session:
        await session.client.retry(held.transfer)
    view = await owned.until(held.transfer, lambda one: one.deliveries[0].reasons[0].rule == "policy-unsigned")

    assert view.deliveries[0].state == "release-hold"


async def test_approvals_do_not_make_a_policy_count_that_its_owners_did_not_sign(owned: World, tmp_path: Path):
    """Root asks one friend where the owners ask two: what the friend says releases nothing."""
    owned.us.set_policy(OPEN + OFFER)
    await owned.start()
    [delivery] = (await push(owned, tmp_path)).deliveries

    assert (delivery.state, [one.rule for one in delivery.reasons]) == ("offer-hold", ["policy-unsigned"])
    assert delivery.approvals is None


async def test_a_bundle_cannot_name_one_owner_alone(owned: World):
    async with open_site(owned.us.directory) as opened:
        with pytest.raises(CallerError, match="would own policies alone"):
            propose(opened.trust.current(), Change(policy_owners=(AgentName("ada"),)), datetime.now(UTC))
