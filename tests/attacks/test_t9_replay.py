"""T9: what was said once is said again, in another place, or about something else."""

from pathlib import Path

import pytest

from carnet.errors import CarnetError, Conflict
from gateway.offline import open_site
from tests.attacks.parties import Peers, bent, noise, segment_of
from tests.crossing.sites import World, push_in


async def log_size(world: World, site: str) -> int:
    async with open_site(getattr(world, site).directory) as opened:
        head = await opened.catalog.read(lambda tx: tx.log_head())
    assert head is not None
    return int(head.size)


async def test_a_declaration_said_again_is_answered_with_the_same_receipt(world: World, peers: Peers, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    request = await peers.declared(result.view.transfer)
    first = await peers.clients["us"].forward_declare(request)
    for _ in range(20):
        assert await peers.clients["us"].forward_declare(request) == first
    again = await peers.clients["us"].forward_commit(request.transfer)

    assert first.state == "delivered"
    assert again.receipt == first.receipt == result.view.deliveries[0].stored_receipt


async def test_a_key_said_again_changes_nothing(world: World, peers: Peers, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    message = await peers.key_message(result.view.transfer)
    for _ in range(20):
        await peers.clients["us"].message(result.view.transfer, message)
    await world.eu.stop()

    from tests.promises.border import verified_log

    assert (await verified_log(world.eu))["key-unwrapped"] == 1


async def test_the_key_of_one_transfer_opens_no_other(world: World, peers: Peers, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 300_000)
    first = await world.push(f"file:{source}", "eu:app:v1")
    waits = {"classification": "internal", "purpose": "wait-at-release"}
    second = await world.push(f"file:{source}", "eu:app:v2", declare=waits)
    with pytest.raises(CarnetError) as caught:
        await peers.clients["us"].message(second.view.transfer, await peers.key_message(first.view.transfer))

    assert caught.value.exit_status == 6
    assert (await world.show(second.view.transfer)).deliveries[0].state == "release-hold"


async def test_the_offer_of_one_transfer_carries_no_other(world: World, peers: Peers, tmp_path: Path) -> None:
    sent = [await world.push(f"file:{noise(tmp_path / name, 300_000, seed)}", f"eu:{name}:v1") for seed, name in enumerate("ab")]
    first, second = [await peers.declared(result.view.transfer) for result in sent]
    parts = ("waybill", "packing_list", "segment_list", "offer", "transfer")
    for name in parts:
        told = first.model_copy(update={name: getattr(second, name)})
        with pytest.raises(CarnetError) as caught:
            await peers.clients["us"].forward_declare(told)
        assert caught.value.http_status < 500, name


async def test_segments_into_a_transfer_that_has_all_of_them_are_refused(world: World, peers: Peers, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 300_000)}", "eu:app:v1")
    data = next(path for path in world.eu.stored() if path.stat().st_size > 1000).read_bytes()
    for body in (data, b"something else"):
        with pytest.raises(CarnetError) as caught:
            await peers.clients["us"].put_segment(result.view.transfer, segment_of(body), body)
        assert caught.value.http_status in {404, 409}


async def test_a_commit_said_again_is_the_same_commit_and_another_is_refused(world: World, tmp_path: Path) -> None:
    from agent.session import open_session
    from tests.attacks.parties import Lie, lying

    async with open_session(world.us.agent) as session:
        said = []

        async def twice(transfer, request):  # type: ignore[no-untyped-def]
            said.append((await session.client.commit(transfer, request), await session.client.commit(transfer, request)))
            later = lying(session, Lie(waybill=lambda one: one.model_copy(update={"not_after": "2027-01-01T00:00:00Z"})))
            with pytest.raises(Conflict, match="another waybill"):
                await later.client.commit(transfer, request)
            return said[-1][1]

        result = await push_in(bent(session, commit=twice), f"file:{noise(tmp_path / 'a', 1000)}", "app:v1")

    [(first, second)] = said
    assert (first.missing, second.missing) == ((), ())
    assert result.view.deliveries[0].state == "delivered"
