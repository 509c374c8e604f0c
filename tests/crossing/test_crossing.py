"""An artifact crosses a border: pushed at us, decided there, delivered at eu by eu's own decision, pulled bit for bit."""

import random
from pathlib import Path

import pytest

from agent.push import Wait
from carnet.envelope import parse_envelope
from carnet.errors import CapacityError, CarnetError, Conflict, IntegrityError, NotAuthorised, NotFound, Refused, Unavailable
from carnet.flow.client import PeerClient
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId
from carnet.receipt import Receipt, ReceiptKind
from tests.agent.layouts import blobs_of, simple_image
from tests.crossing.sites import World, know_each_other, make_template, push_in, world_from


def noise(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_a_file_arrives_as_it_was_sent(world: World, tmp_path: Path, size: int) -> None:
    source = noise(tmp_path / "файл 文件.bin", size)

    result = await world.push(f"file:{source}", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert [one.state for one in result.view.deliveries] == ["delivered"]
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_an_image_keeps_every_digest(world: World, tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "layout")

    await world.push(f"oci:{layout.path}:v1", "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"oci:{tmp_path / 'out'}:v1")

    assert blobs_of(tmp_path / "out") == blobs_of(layout.path)


async def test_the_origin_holds_both_receipts_signed_by_the_destination(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    from gateway.offline import open_site

    async with open_site(world.us.directory) as site:
        key = site.trust.state().current.site(world.eu.name).signing_key
    [delivery] = result.view.deliveries
    for kind, envelope in ((ReceiptKind.STORED, delivery.stored_receipt), (ReceiptKind.DELIVERED, delivery.delivered_receipt)):
        assert envelope is not None
        receipt = Receipt.open(parse_envelope(envelope), [key])
        assert (receipt.kind, receipt.site, receipt.waybill) == (kind, "eu", result.view.waybill_digest)


async def test_a_list_of_transfers_leaves_the_receipts_to_the_one_that_is_asked_for(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    from agent.session import open_session

    async with open_session(world.us.agent) as session:
        [listed] = (await session.client.list()).transfers

    [delivery] = result.view.deliveries
    assert listed == result.view.model_copy(
        update={"deliveries": (delivery.model_copy(update={"stored_receipt": None, "delivered_receipt": None}),)}
    )


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


async def test_an_index_that_this_machine_sealed_is_not_fetched_and_without_its_cache_it_is(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[SegmentId] = []
    fetch = PeerClient.segment

    async def spied(client: PeerClient, segment: SegmentId) -> bytes:
        fetched.append(segment)
        return await fetch(client, segment)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(PeerClient, "segment", spied)
    source = noise(tmp_path / "a", 3_000_000)
    await world.push(f"file:{source}", "eu:app:v1")
    await world.push(f"file:{source}", "eu:app:v2")
    assert fetched == []

    pages = {path.name for path in (tmp_path / "cache" / "carnet").iterdir()}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    await world.push(f"file:{source}", "eu:app:v3")
    assert set(fetched) == pages, "one page of each base"


async def test_a_third_version_builds_upon_a_base_that_had_a_base(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(4_000_000)
    for number in range(1, 4):
        (tmp_path / f"v{number}").write_bytes(data + bytes(f"tail {number}" * number, "ascii"))
        progress = Progress()
        await world.push(f"file:{tmp_path / f'v{number}'}", f"eu:app:v{number}", progress=progress)
        await world.pull(world.eu, f"app:v{number}", f"file:{tmp_path / f'out{number}'}")

        assert (tmp_path / f"out{number}").read_bytes() == (tmp_path / f"v{number}").read_bytes()
        assert number == 1 or progress.wire_bytes < 400_000


async def test_what_the_origin_denies_is_refused_before_a_byte_moves(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 100_000)

    with pytest.raises(Refused, match=r"rule controlled.*E-DENIED"):
        await world.push(f"file:{source}", "eu:app:v1", declare={"classification": "export-controlled"})

    assert world.us.stored() == []
    assert world.eu.stored() == []


async def test_what_no_rule_permits_is_denied(world: World, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no rule permits|not known"):
        await world.push(f"file:{noise(tmp_path / 'a', 10)}", "eu:app:v1", declare={"classification": "secret"})


async def test_a_missing_fact_holds_at_the_offer_and_nothing_leaves(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare={})

    assert (result.view.state, result.view.deliveries[0].state) == ("held", "offer-hold")
    assert any("FACT-MISSING" in reason.text for reason in result.view.deliveries[0].reasons)
    assert world.eu.stored() == []


@pytest.mark.parametrize(("purpose", "state"), [("quarantine-me", "quarantined"), ("deny-me", "denied"), ("hold-me", "held")])
async def test_the_destination_decides_for_itself_and_the_origin_learns_why(
    world: World, tmp_path: Path, purpose: str, state: str
) -> None:
    source = noise(tmp_path / "a", 1000)

    result = await world.push(f"file:{source}", "eu:app:v1", declare={"classification": "public", "purpose": purpose})

    [delivery] = result.view.deliveries
    assert delivery.state == state
    assert delivery.reasons[0].text
    with pytest.raises(NotFound):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")


async def test_ciphertext_waits_abroad_while_the_key_waits_at_home(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "wait-at-release"}

    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=said)

    assert result.view.deliveries[0].state == "release-hold"
    assert len(world.eu.stored()) > 0
    with pytest.raises(NotFound):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")


async def test_a_release_that_is_denied_removes_the_ciphertext_abroad(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "no-key"}

    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=said)
    await world.eu.stop()
    await world.eu.start()

    assert result.view.deliveries[0].state == "release-deny"


async def test_a_hold_goes_on_when_the_policy_allows_it_later(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare={"purpose": "deploy"})
    await world.us.stop()
    world.us.set_policy(
        """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 2, owner: the tests}
rules:
  - {id: anything, at: [offer, release, receipt], effect: allow, reason: for this test}
"""
    )
    await world.us.start()

    from agent.session import open_session

    async with open_session(world.us.agent) as session:
        await session.client.retry(result.view.transfer)
    view = await world.until(result.view.transfer, lambda view: view.deliveries[0].state == "delivered")

    assert view.state == "admitted"


async def test_a_destination_that_is_away_gets_its_delivery_when_it_is_back(world: World, tmp_path: Path) -> None:
    await world.eu.stop()
    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", wait=Wait.DECIDED)
    assert result.view.state == "admitted"

    await world.eu.start()
    view = await world.until(result.view.transfer, lambda view: view.deliveries[0].state == "delivered", timeout_s=60)

    assert view.deliveries[0].delivered_receipt is not None


async def test_a_pull_that_policy_denies_names_the_rule_and_writes_nothing(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "no-pull"}
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=said)

    with pytest.raises(Refused, match="rule not-for-pulling"):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert not (tmp_path / "out").exists()


async def test_an_artifact_for_eu_is_not_pulled_at_us(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    with pytest.raises(NotFound):
        await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")


async def test_a_flipped_byte_in_the_store_is_found_before_anything_is_written(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "eu:app:v1")
    path = max(world.eu.stored(), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(IntegrityError):
        await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert not (tmp_path / "out").exists()


async def test_a_segment_lost_at_the_origin_holds_the_transfer_back_from_the_border(world: World, tmp_path: Path) -> None:
    from agent.session import open_session

    await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "app:v1")
    path = max(world.us.stored(), key=lambda one: one.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])

    async with open_session(world.us.agent) as session:
        with pytest.raises((IntegrityError, CarnetError)):
            await session.client.segment(path_to_id(path))


def path_to_id(path: Path) -> "object":
    from carnet.identifiers import SegmentId

    name = path.name if path.name.startswith("b3-") else f"b3-{path.name}"
    return SegmentId(name)


async def test_a_tag_moves_forward_and_the_waybill_names_the_one_before(world: World, tmp_path: Path) -> None:
    first = await world.push(f"file:{noise(tmp_path / 'a', 1000, 1)}", "eu:app:latest")
    await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:app:latest")

    granted = await world.pull(world.eu, "app:latest", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == (tmp_path / "b").read_bytes()
    assert (granted.waybill.turn, granted.waybill.previous) == (2, first.view.waybill_digest)


async def test_within_a_site_a_push_is_delivered_and_deleted(world: World, tmp_path: Path) -> None:
    from agent.session import open_session
    from carnet.identifiers import Repository, Tag

    await world.push(f"file:{noise(tmp_path / 'a', 100_000)}", "app:v1")
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")
    async with open_session(world.us.agent) as session:
        listed = await session.client.artifacts(repository=None, after=None)
        await session.client.delete_artifact(Repository("app"), Tag("v1"))
        after = await session.client.artifacts(repository=None, after=None)

    assert [f"{one.repository}:{one.tag}" for one in listed.artifacts] == ["app:v1"]
    assert after.artifacts == ()
    assert world.us.stored() == []


async def test_deleting_a_base_keeps_what_the_next_version_needs(world: World, tmp_path: Path) -> None:
    from agent.session import open_session
    from carnet.identifiers import Repository, Tag

    data = random.Random(5).randbytes(3_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    await world.push(f"file:{tmp_path / 'v1'}", "app:v1")
    await world.push(f"file:{tmp_path / 'v2'}", "app:v2")

    async with open_session(world.us.agent) as session:
        await session.client.delete_artifact(Repository("app"), Tag("v1"))
    await world.pull(world.us, "app:v2", f"file:{tmp_path / 'out'}")
    progress = Progress()
    (tmp_path / "v3").write_bytes(data + b"still more")
    await world.push(f"file:{tmp_path / 'v3'}", "app:v3", progress=progress)

    assert (tmp_path / "out").read_bytes() == (tmp_path / "v2").read_bytes()
    assert progress.wire_bytes < 400_000


async def test_an_identity_does_only_what_its_grants_say(world: World, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from agent.enroll import enroll
    from agent.session import open_session
    from agent.settings import AgentSettings
    from tests.crossing.sites import invite_agent

    invite = await invite_agent(world.us, "narrow", ("push:app/*@home",))
    await enroll(invite, tmp_path / "narrow", datetime.now(UTC))
    settings = AgentSettings(url=world.us.settings.url, site=world.us.name, identity_dir=tmp_path / "narrow")
    source = noise(tmp_path / "a", 10)

    async with open_session(settings) as session:
        await push_in(session, f"file:{source}", "app/x:v1")
        with pytest.raises(NotAuthorised, match="may not push other"):
            await push_in(session, f"file:{source}", "other:v1")
        with pytest.raises(NotAuthorised, match="lane us-eu"):
            await push_in(session, f"file:{source}", "eu:app/x:v1")


async def test_the_number_of_unfinished_transfers_is_bounded_by_name(cold_world: World, tmp_path: Path) -> None:
    from agent.push import PushOrder
    from agent.resume import continue_or_begin
    from agent.session import open_session
    from agent.sources import open_source
    from carnet.identifiers import Repository, Tag
    from carnet.trust import HOME_LANE
    from gateway.settings import Limits

    world = cold_world
    world.us.limits = Limits(open_transfers_max=2)
    await world.us.start()
    source = open_source(f"file:{noise(tmp_path / 'a', 10)}")

    async with open_session(world.us.agent) as session:

        async def begin(tag: str) -> None:
            from agent.push import _declaration

            order = PushOrder(lane=HOME_LANE, destinations=(world.us.name,), repository=Repository("app"), tag=Tag(tag))
            await continue_or_begin(
                session, source, lambda transfer, statement, fresh: _declaration(order, source, transfer, statement, fresh=fresh)
            )

        await begin("a")
        await begin("b")
        await begin("a")
        with pytest.raises(CapacityError, match="at most 2") as caught:
            await begin("c")

    assert caught.value.limit == "open_transfers_max"


async def test_a_transfer_is_cancelled_until_its_key_has_left(world: World, tmp_path: Path) -> None:
    from agent.session import open_session

    said = {"classification": "public", "purpose": "wait-at-release"}
    waiting = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=said)
    gone = await world.push(f"file:{noise(tmp_path / 'b', 1000)}", "eu:app:v2")

    async with open_session(world.us.agent) as session:
        view = await session.client.cancel(waiting.view.transfer, "not wanted")
        with pytest.raises(Conflict, match="cannot be cancelled"):
            await session.client.cancel(gone.view.transfer, "too late")

    assert (view.state, view.deliveries[0].state) == ("cancelled", "cancelled")


async def test_a_site_without_a_route_to_the_destination_says_so_before_reading(tmp_path: Path) -> None:
    await make_template(tmp_path / "template", have_met=False)
    async with world_from(tmp_path / "template", tmp_path / "world", start=False) as strangers:
        await strangers.us.start()

        with pytest.raises(Unavailable, match="no valid KEM key"):
            await strangers.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")


async def test_both_sites_survive_a_restart_between_any_two_steps(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    for site in (world.us, world.eu):
        await site.stop()
        await site.start()
    await know_each_other(world)
    await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:app:v2")

    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out1'}")
    await world.pull(world.eu, "app:v2", f"file:{tmp_path / 'out2'}")

    assert (tmp_path / "out1").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "out2").read_bytes() == (tmp_path / "b").read_bytes()


async def test_what_is_denied_on_receipt_leaves_no_segment_behind(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "deny-me"}

    result = await world.push(f"file:{noise(tmp_path / 'a', 100_000)}", "eu:app:v1", declare=said)
    await world.eu.stop()

    assert result.view.deliveries[0].state == "denied"
    assert world.eu.stored() == []


async def test_a_quarantined_artifact_is_delivered_when_the_policy_changes_and_somebody_retries(
    world: World, tmp_path: Path
) -> None:
    from agent.session import open_session

    said = {"classification": "public", "purpose": "locked"}
    world.us.set_policy(
        """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 2, owner: the tests}
rules:
  - {id: anything, at: [offer, release, receipt], effect: allow, reason: for this test}
  - {id: locked, at: [receipt], when: {purpose: locked}, effect: quarantine, reason: for this test, remedy: retry}
"""
    )
    await world.us.stop()
    await world.us.start()
    result = await world.push(f"file:{noise(tmp_path / 'a', 100_000)}", "app:v1", declare=said)
    assert (result.view.state, result.view.deliveries[0].state) == ("quarantined", "quarantined")
    world.us.set_policy(
        """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 3, owner: the tests}
rules:
  - {id: anything, at: [offer, release, receipt], effect: allow, reason: for this test}
"""
    )
    await world.us.stop()
    await world.us.start()

    async with open_session(world.us.agent) as session:
        await session.client.retry(result.view.transfer)
    view = await world.until(result.view.transfer, lambda view: view.deliveries[0].state == "delivered")

    assert view.state == "admitted"
