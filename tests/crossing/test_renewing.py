"""Keys and certificates of both sites are renewed while artifacts cross: nothing fails, nothing is restarted (R10)."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from agent.enroll import enroll, fetch_chain
from carnet.keys import SigningKey
from gateway.commands.keys import _rotate
from gateway.commands.lanes import _renew_ca
from gateway.offline import open_site
from gateway.pki import fingerprint
from gateway.proposals import Change, propose, read_card, unsigned
from tests.crossing.sites import World, invite_agent


async def import_cards(world: World) -> None:
    """Have the root sign a bundle with both present site cards, and import it at both sites."""
    async with open_site(world.us.directory) as site:
        current = site.trust.state().current
    cards = tuple(read_card(site.paths.card) for site in (world.us, world.eu))
    envelope = unsigned(propose(current, Change(cards=cards), datetime.now(UTC))).with_signature(SigningKey(bytes(range(32))))
    for one in (world.eu, world.us):
        async with open_site(one.directory) as site:
            await site.trust.import_bundle(envelope.encode())


async def test_cas_and_kem_keys_are_renewed_under_load_and_every_push_is_delivered(world: World, tmp_path: Path) -> None:
    before = await asyncio.to_thread(fetch_chain, world.us.settings.url)
    is_renewed, states = asyncio.Event(), list[str]()

    async def push_on() -> None:
        number = 0
        while not is_renewed.is_set() or number < 3:
            number += 1
            path = tmp_path / f"file-{number}"
            path.write_bytes(str(number).encode() * 1_000)
            result = await world.push(f"file:{path}", f"eu:app:v{number}")
            states.append(result.view.deliveries[0].state)

    async def renew() -> None:
        for site in (world.us, world.eu):
            await _renew_ca(site.directory)
            await _rotate(site.directory)
        await import_cards(world)
        async with asyncio.timeout(60):
            while (after := await asyncio.to_thread(fetch_chain, world.us.settings.url))[1] == before[1]:
                await asyncio.sleep(0.2)
        assert after[1].public_key() == before[1].public_key()
        is_renewed.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(push_on())
        group.create_task(renew())

    assert set(states) == {"delivered"}
    invite = await invite_agent(world.us, "late")
    assert invite.ca == fingerprint((await asyncio.to_thread(fetch_chain, world.us.settings.url))[1])
    await enroll(invite, tmp_path / "late", datetime.now(UTC))
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")
