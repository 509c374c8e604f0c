"""A sealed lane end to end: the origin admits, forwards and releases what it cannot open; agent and destination do the rest."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.push import PushOrder, check
from agent.session import open_session
from agent.sources import open_source
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, NotFound, Refused
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, SiteName, Tag, TransferId
from carnet.packing import PackingList
from carnet.trust import HOME_LANE
from gateway import documents
from gateway.offline import open_site
from gateway.records import TransferRecord
from tests.agent.layouts import blobs_of, simple_image
from tests.crossing.sites import POLICIES, ROOTS, World, know_each_other, make_template, world_from
from tests.crossing.test_resume import push_and_stop, push_recording


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sites, with a sealed lane between them."""
    root = tmp_path_factory.mktemp("sealed")
    asyncio.run(make_template(root, "us-eu=us:eu:sealed"))
    return root


@pytest.fixture
async def world(template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Both sites, running; the agent of us has the roots in its own configuration."""
    async with world_from(template, tmp_path / "world") as running:
        running.us.root_fingerprint = ROOTS
        yield running


@pytest.fixture
async def cold_world(template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Both sites, not started."""
    async with world_from(template, tmp_path / "world", start=False) as waiting:
        waiting.us.root_fingerprint = ROOTS
        yield waiting


def noise(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


async def transfer_at_eu(world: World, transfer: str) -> TransferRecord:
    async with open_site(world.eu.directory) as site:
        found = await site.catalog.read(lambda tx: tx.transfer(TransferId(transfer)))
    assert found is not None
    return found


@pytest.mark.parametrize("size", [0, 70_000, 3_000_000])
async def test_a_file_arrives_as_it_was_sent(world: World, tmp_path: Path, size: int) -> None:
    source = noise(tmp_path / "файл.bin", size)

    result = await world.push(f"file:{source}", "eu:app:v1", sealed=True)
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (result.view.state, result.view.deliveries[0].state, result.mode) == ("admitted", "delivered", "sealed")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_an_image_keeps_every_digest(world: World, tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "layout")

    await world.push(f"oci:{layout.path}:v1", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"oci:{tmp_path / 'out'}:v1")

    assert blobs_of(tmp_path / "out") == blobs_of(layout.path)


async def test_a_directory_arrives_as_it_was_sent(world: World, tmp_path: Path) -> None:
    (tmp_path / "source" / "below").mkdir(parents=True)
    noise(tmp_path / "source" / "below" / "a", 200_000)
    (tmp_path / "source" / "b").write_text("b")

    await world.push(f"dir:{tmp_path / 'source'}", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"dir:{tmp_path / 'out'}")

    assert (tmp_path / "out" / "below" / "a").read_bytes() == (tmp_path / "source" / "below" / "a").read_bytes()
    assert (tmp_path / "out" / "b").read_text() == "b"


async def test_the_packing_list_is_the_agents_and_no_key_is_for_the_origin(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    transfer = TransferId(result.view.transfer)

    async with open_site(world.us.directory) as site:
        releases, packing, key = await site.catalog.read(
            lambda tx: (
                [documents.read_release(body).recipient for body in tx.documents(transfer, "release/").values()],
                PackingList.read_unverified(parse_envelope(documents.need(tx, transfer, documents.PACKING_LIST))),
                tx.artifact_key(transfer),
            )
        )
    assert packing.sealer == result.view.identity
    assert packing.sites == ("eu",)
    assert sorted(recipient.name for recipient in releases) == ["agent", "eu"]
    assert key is None


async def test_the_next_version_sends_only_what_is_new(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(8_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data[:4_000_000] + b"inserted" + data[4_000_000:])
    await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1")
    progress = Progress()

    result = await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2", progress=progress)
    await world.pull(world.eu, "app:v2", f"file:{tmp_path / 'out'}")

    assert progress.wire_bytes < 400_000
    assert result.view.deliveries[0].bytes_sent < 400_000
    assert (tmp_path / "out").read_bytes() == (tmp_path / "v2").read_bytes()


async def test_a_base_that_the_destination_did_not_deliver_is_not_built_upon(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    first = await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1", declare={"classification": "public", "purpose": "hold-me"})
    progress = Progress()

    await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2", progress=progress)

    assert first.view.deliveries[0].state == "held"
    assert progress.wire_bytes > 3_000_000


async def test_a_push_that_was_cut_continues_and_sends_none_again(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 6_000_000)
    async with open_session(world.us.agent) as session:
        first = await push_and_stop(session, 3, source, "eu:app:v1")
    await world.us.stop()
    await world.us.start()
    async with open_session(world.us.agent) as session:
        result, second = await push_recording(session, source, "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert result.resumed
    assert len(first) == 3
    assert not set(first) & set(second)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_another_machine_with_the_same_identity_finds_what_was_committed(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 2_000_000)
    said = {"classification": "public", "purpose": "wait-at-release"}
    first = await world.push(f"file:{source}", "eu:app:v1", declare=said)
    shutil.copytree(world.us.agent_dir, tmp_path / "other-machine")
    settings = world.us.agent.model_copy(update={"identity_dir": tmp_path / "other-machine" / "identity"})

    async with open_session(settings) as session:
        again, sent = await push_recording(session, source, "eu:app:v1", declare=said)

    assert again.view.transfer == first.view.transfer
    assert sent == []


async def test_the_origin_withholds_the_release_that_the_agent_made(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "wait-at-release"}

    result = await world.push(f"file:{noise(tmp_path / 'a', 900_000)}", "eu:app:v1", declare=said)
    there = await transfer_at_eu(world, result.view.transfer)

    assert result.view.deliveries[0].state == "release-hold"
    assert there.state == "stored"


async def test_the_destination_denies_what_it_opened_and_found_unwanted(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "deny-me"}

    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=said)

    assert (result.view.state, result.view.deliveries[0].state) == ("admitted", "denied")
    assert any("not wanted here" in reason.text for reason in result.view.deliveries[0].reasons)


async def test_a_rule_of_the_origin_can_ask_whether_the_content_was_inspected(cold_world: World, tmp_path: Path) -> None:
    blind = """
  - id: not-blind
    at: [offer]
    when: {content.inspected: false, label.scan: {present: false}}
    effect: deny
    reason: nobody here saw what is in it, and the sender says nothing of a scan
    remedy: scan it and declare label.scan=passed
"""
    cold_world.us.set_policy(POLICIES["us"] + blind)
    await cold_world.eu.start()
    await cold_world.us.start()
    await know_each_other(cold_world)
    source = noise(tmp_path / "a", 1000)
    with pytest.raises(Refused, match="nobody here saw"):
        await cold_world.push(f"file:{source}", "eu:app:v1")
    attested = {"classification": "internal", "purpose": "deploy", "labels": {"scan": "passed"}}
    result = await cold_world.push(f"file:{source}", "eu:app:v1", declare=attested)

    assert result.view.deliveries[0].state == "delivered"


async def test_nobody_pulls_it_at_the_origin(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    with pytest.raises(NotFound, match=r"went from here to eu.*E-ARTIFACT-UNKNOWN"):
        await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


async def test_a_push_on_a_sealed_lane_needs_roots_from_the_agents_own_configuration(world: World, tmp_path: Path) -> None:
    world.us.root_fingerprint = None
    source = noise(tmp_path / "a", 1000)

    with pytest.raises(CallerError, match=r"lane us-eu is sealed.*E-NOT-PINNED"):
        await world.push(f"file:{source}", "eu:app:v1")
    assert world.us.stored() == []


async def test_sealed_insists_and_an_inspected_lane_is_refused(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 1000)

    with pytest.raises(CallerError, match=r"lane home is inspected.*E-LANE-MODE"):
        await world.push(f"file:{source}", "app:v1", sealed=True)
    async with open_session(world.us.agent) as session:
        order = PushOrder(
            lane=HOME_LANE, destinations=(SiteName("us"),), repository=Repository("app"), tag=Tag("v1"), sealed=True
        )
        with pytest.raises(CallerError, match="E-LANE-MODE"):
            await check(session, open_source(f"file:{source}", kind=None), order)
    world.us.root_fingerprint = None
    with pytest.raises(CallerError, match=r"--sealed.*E-NOT-PINNED"):
        await world.push(f"file:{source}", "app:v1", sealed=True)
    assert world.us.stored() == []
