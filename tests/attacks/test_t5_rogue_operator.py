"""T5: one operator alone, root on one gateway with all its keys, lets nothing go that two persons have to let go."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carnet.errors import CarnetError, IntegrityError
from carnet.identifiers import AgentName
from carnet.trust import Person
from gateway.offline import open_site
from gateway.proposals import Change, propose, sign_proposal, unsigned
from tests.attacks.parties import noise
from tests.attacks.rogue_origin import Root, allowed
from tests.crossing.officers import KEYS, appoint_both, signed
from tests.crossing.sites import LiveSite, World, know_each_other, world_from
from tests.promises.border import verified_log


@pytest.fixture
async def guarded(template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Both sites, running, on a lane that asks for two persons."""
    async with world_from(template, tmp_path / "world", start=False) as world:
        await appoint_both(world)
        await world.eu.start()
        await world.us.start()
        await know_each_other(world)
        yield world


async def key_at(site: LiveSite, transfer: str) -> bytes | None:
    """Return the artifact key that a site keeps."""
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(lambda tx: tx.artifact_key(transfer))  # type: ignore[arg-type]


async def test_root_at_the_origin_signs_logs_and_sends_a_release_of_its_own_and_it_is_refused_and_logged_abroad(
    guarded: World, tmp_path: Path
) -> None:
    world = guarded
    transfer = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view.transfer
    await world.us.stop()
    root = Root(world)
    hold = await root.hold(transfer)
    logged_hold, release, other = await root.logged(hold, allowed(hold), allowed(hold, obligations=()))
    made_up = [signed(await root.request(transfer), "bob", "security", key="spare")]
    await world.us.start()
    await know_each_other(world)

    for step, with_hold in ((release, None), (release, logged_hold), (other, None), (other, logged_hold)):
        with pytest.raises(CarnetError) as refusal:
            await root.send(transfer, await root.key_message(transfer, step, with_hold, made_up))
        assert refusal.value.code == "E-APPROVALS"
    assert await key_at(world.eu, transfer) is None
    await world.eu.stop()
    assert (await verified_log(world.eu))["key-refused"] == 2  # once for each release that us signed


@pytest.mark.parametrize("name", ["us", "eu"])
async def test_root_on_a_site_can_neither_appoint_a_person_nor_drop_the_floor(guarded: World, name: str) -> None:
    """Both are in the trust bundle, which only the roots sign."""
    site: LiveSite = getattr(guarded, name)
    async with open_site(site.directory) as opened:
        current = opened.trust.state().current
        mallory = Person(name=AgentName("mallory"), roles=("security", "export-control"), keys=(KEYS["spare"].public,))
        dropped = tuple(one.model_copy(update={"release_floor": type(one.release_floor)()}) for one in current.lanes)
        appointed = propose(current, Change(people=(mallory,), without=("dora",)), datetime.now(UTC))
        for bundle in (appointed, current.model_copy(update={"version": current.version + 1, "lanes": dropped})):
            with pytest.raises(IntegrityError):
                await opened.trust.import_bundle(
                    sign_proposal(unsigned(bundle), opened.keyring().signing).encode(), root_fingerprint=None
                )
        assert opened.trust.state().current == current


async def test_root_at_the_destination_has_no_key_while_the_persons_have_not_signed(guarded: World, tmp_path: Path) -> None:
    world = guarded
    transfer = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view.transfer

    assert await key_at(world.eu, transfer) is None
    async with open_site(world.eu.directory) as opened:
        kept = await opened.catalog.read(lambda tx: tx.documents(transfer, ""))
    assert not [name for name in kept if name.startswith("release/")]
    assert world.eu.stored()
