"""A destination lost the KEM key that a release names: the key is wrapped again, and not one segment is sent again."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.bases import verify_sealed
from agent.rewrap import rewrap
from agent.session import Session, open_session
from agent.settings import encode_settings
from carnet.errors import IntegrityError, NotAuthorised, NotFound, PeerError
from carnet.identifiers import SiteName, TransferId
from carnet.messages import RewrapRequest, TransferView
from carnet.release import make_release, site_recipient
from gateway.commands.keys import _revoke_key
from gateway.keyring import rotate_kem
from gateway.offline import open_site
from tests.crossing.sites import POLICIES, ROOTS, LiveSite, World, invite_agent, know_each_other, make_template, world_from
from tests.crossing.test_resume import noise, push_recording
from tests.promises.border import verified_log

CARNET = Path(sys.executable).parent / "carnet"
WAITS = {"classification": "public", "purpose": "wait-at-release"}


@pytest.fixture(scope="module")
def sealed_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sites, with a sealed lane between them."""
    root = tmp_path_factory.mktemp("rewrap")
    asyncio.run(make_template(root, "us-eu=us:eu:sealed"))
    return root


@pytest.fixture
async def sealed_world(sealed_template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Both sites, running."""
    async with world_from(sealed_template, tmp_path / "world") as running:
        running.us.root_fingerprint = ROOTS
        yield running


async def lose_the_key(site: LiveSite) -> None:
    """Let a site, which runs, come back without its KEM key 1 and with a new one."""
    await site.stop()
    async with open_site(site.directory) as opened:
        await rotate_kem(opened.catalog, opened.keyring(), site.name, datetime.now(UTC))
    (site.paths.keys / "kem-1.key").unlink()
    await site.start()


async def release_now(world: World) -> None:
    """Let us no longer hold what waits at the release."""
    await world.us.stop()
    world.us.set_policy(POLICIES["us"].replace("{purpose: wait-at-release}", "{purpose: nothing}"))
    await world.us.start()
    await know_each_other(world)


async def waiting_for_a_wrap(world: World, source: Path) -> TransferView:
    """Push, and return the view once eu was sent a key that it does not hold and us cannot wrap again."""
    first = await world.push(f"file:{source}", "eu:app:v1", declare=WAITS)
    assert first.view.deliveries[0].state == "release-hold"
    await lose_the_key(world.eu)
    await release_now(world)
    async with open_session(world.us.agent, connections=1) as session:
        await session.client.retry(first.view.transfer)
        return await session.client.wait(first.view.transfer, lambda view: view.deliveries[0].state == "needs-rewrap", 20)


async def test_the_origin_of_an_inspected_lane_wraps_again_by_itself(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 2_000_000)
    first = await world.push(f"file:{source}", "eu:app:v1", declare=WAITS)
    stored = set(world.eu.stored())
    await lose_the_key(world.eu)
    await release_now(world)
    async with open_session(world.us.agent, connections=1) as session:
        await session.client.retry(first.view.transfer)
    view = await world.until(first.view.transfer, lambda view: view.deliveries[0].state == "delivered")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert view.deliveries[0].bytes_sent == first.view.deliveries[0].bytes_sent
    assert set(world.eu.stored()) == stored
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_on_a_sealed_lane_the_next_push_of_the_same_content_wraps_again(sealed_world: World, tmp_path: Path) -> None:
    world, source = sealed_world, noise(tmp_path / "a", 2_000_000)
    waiting = await waiting_for_a_wrap(world, source)
    async with open_session(world.us.agent) as session:
        again, sent = await push_recording(session, source, "eu:app:v1", declare=WAITS)
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    [delivery] = again.view.deliveries
    assert (again.view.transfer, delivery.state, sent) == (waiting.transfer, "delivered", [])
    assert delivery.bytes_sent == waiting.deliveries[0].bytes_sent
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_a_retry_by_the_sender_wraps_again_and_reads_no_source(sealed_world: World, tmp_path: Path) -> None:
    world, source = sealed_world, noise(tmp_path / "a", 900_000)
    waiting = await waiting_for_a_wrap(world, source)
    content = source.read_bytes()
    source.unlink()
    async with open_session(world.us.agent, connections=1) as session:
        await rewrap(session, waiting)
    await world.until(waiting.transfer, lambda view: view.deliveries[0].state == "delivered")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == content


async def test_a_key_that_was_stolen_from_the_destination_is_never_used_and_the_sender_wraps_to_the_next(
    sealed_world: World, tmp_path: Path
) -> None:
    world, source = sealed_world, noise(tmp_path / "a", 900_000)
    first = await world.push(f"file:{source}", "eu:app:v1", declare=WAITS)
    await world.eu.stop()
    await _revoke_key(world.eu.directory, "kem-1", "key-stolen")
    await world.eu.start()
    await release_now(world)
    async with open_session(world.us.agent) as session:
        await session.client.retry(first.view.transfer)
        await session.client.wait(first.view.transfer, lambda view: view.deliveries[0].state == "needs-rewrap", 20)
        again, sent = await push_recording(session, source, "eu:app:v1", declare=WAITS)
    await world.eu.stop()
    destination = await verified_log(world.eu)

    assert (again.view.deliveries[0].state, sent) == ("delivered", [])
    assert destination["key-unwrapped"] == 1


async def carnet(world: World, *arguments: str) -> tuple[int, str]:
    """Run `carnet` at us with the settings of its agent; return exit status and what it printed."""
    agent = world.us.agent
    config = world.root / "carnet.toml"
    config.write_text(encode_settings(agent.url, agent.site, agent.identity_dir, agent.root_fingerprint))
    process = await asyncio.create_subprocess_exec(
        *(CARNET, "--config", config, *arguments),
        env={name: value for name, value in os.environ.items() if not name.startswith("CARNET_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_the_command_that_the_reason_names_ends_the_wait(sealed_world: World, tmp_path: Path) -> None:
    world = sealed_world
    waiting = await waiting_for_a_wrap(world, noise(tmp_path / "a", 1000))
    shown = await carnet(world, "transfer", "show", waiting.transfer)
    retried = await carnet(world, "transfer", "retry", waiting.transfer)
    status, said = await carnet(world, "transfer", "wait", waiting.transfer)

    assert f"carnet transfer retry {waiting.transfer}" in shown[1]
    assert retried[0] == 0
    assert (status, "-> eu: delivered" in said) == (0, True)


async def test_who_waits_is_told_what_to_do_and_both_logs_have_it(sealed_world: World, tmp_path: Path) -> None:
    world = sealed_world
    waiting = await waiting_for_a_wrap(world, noise(tmp_path / "a", 1000))
    async with open_session(world.us.agent, connections=1) as session:
        await rewrap(session, waiting)
    await world.until(waiting.transfer, lambda view: view.deliveries[0].state == "delivered")
    await world.us.stop()
    await world.eu.stop()
    origin, destination = await verified_log(world.us), await verified_log(world.eu)

    [reason] = waiting.deliveries[0].reasons
    assert "KEM key 1, which eu does not hold" in reason.text
    assert reason.remedy == f"run `carnet transfer retry {waiting.transfer}` as its sender"
    assert (origin["rewrap-asked"], origin["key-rewrapped"], origin["key-released"]) == (1, 1, 2)
    assert (destination["key-refused"], destination["key-unwrapped"]) == (1, 1)


async def wrapped_to_eu(session: Session, view: TransferView, number: int) -> RewrapRequest:
    """Return a request with the key wrapped to eu's KEM key of that number."""
    own = verify_sealed(session, await session.client.sealed(view.transfer))
    [key] = [one.key for one in session.kem_statements if (one.site, one.number) == ("eu", number)]
    recipient = site_recipient(session.bundle.trust_domain, SiteName("eu"))
    release = make_release(own.packing, own.artifact_key, recipient=recipient, key_number=number, public=key)
    return RewrapRequest(releases=(release,))


async def test_only_a_wrap_to_the_newest_key_is_taken_and_only_where_one_is_due(sealed_world: World, tmp_path: Path) -> None:
    world = sealed_world
    waiting = await waiting_for_a_wrap(world, noise(tmp_path / "a", 1000))
    async with open_session(world.us.agent, connections=1) as session:
        old, new = await wrapped_to_eu(session, waiting, 1), await wrapped_to_eu(session, waiting, 2)
        with pytest.raises(PeerError, match="E-KEY-RELEASE"):
            await session.client.rewrap(waiting.transfer, old)
        await session.client.rewrap(waiting.transfer, new)
        await world.until(waiting.transfer, lambda view: view.deliveries[0].state == "delivered")
        with pytest.raises(PeerError, match="E-KEY-RELEASE"):
            await session.client.rewrap(waiting.transfer, new)


async def test_the_documents_of_another_transfer_are_not_taken_for_the_one_that_waits(
    sealed_world: World, tmp_path: Path
) -> None:
    world = sealed_world
    other = await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:other:v1")
    waiting = await waiting_for_a_wrap(world, noise(tmp_path / "a", 1000))
    async with open_session(world.us.agent, connections=1) as session:
        inner = session.client.sealed

        async def swapped(_transfer: TransferId) -> object:
            return await inner(TransferId(other.view.transfer))

        session.client.sealed = swapped  # type: ignore[method-assign, assignment]
        with pytest.raises(IntegrityError, match="E-SIGNATURE"):
            await rewrap(session, waiting)


async def test_nobody_else_sees_or_wraps_what_an_agent_sealed(sealed_world: World, tmp_path: Path) -> None:
    from agent.enroll import enroll

    world = sealed_world
    waiting = await waiting_for_a_wrap(world, noise(tmp_path / "a", 1000))
    await enroll(await invite_agent(world.us, "other"), tmp_path / "other", datetime.now(UTC))
    settings = world.us.agent.model_copy(update={"identity_dir": tmp_path / "other"})
    async with open_session(world.us.agent, connections=1) as own, open_session(settings, connections=1) as session:
        request = await wrapped_to_eu(own, waiting, 2)
        with pytest.raises(NotFound, match="E-TRANSFER-UNKNOWN"):
            await session.client.sealed(waiting.transfer)
        with pytest.raises((NotFound, NotAuthorised), match="E-TRANSFER-UNKNOWN"):
            await session.client.rewrap(waiting.transfer, request)
    assert (await world.show(waiting.transfer)).deliveries[0].state == "needs-rewrap"
