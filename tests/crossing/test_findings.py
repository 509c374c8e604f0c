"""What reviews and attacks found once, and must not be found again; each test is named for what must hold."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.session import Session, open_session
from agent.turns import check_turn, remember_turn
from carnet.checkpoint import Checkpoint, sign_checkpoint
from carnet.errors import CarnetError, Held, IntegrityError, PeerError
from carnet.flow.client import PeerClient
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, Tag
from carnet.messages import CommitRequest
from carnet.packing import IndexPage, PackingList, SegmentList, SegmentSummary
from carnet.trust import ApprovalFloor, Lane, ReleaseFloor
from gateway.heads import Heads
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from tests.agent.layouts import simple_image
from tests.crossing.sites import World, push_in
from tests.crossing.test_resume import push_and_stop, push_recording


def noise(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


class Replacing:
    """A client whose answers or requests are bent by a dishonest party."""

    def __init__(self, inner: PeerClient, **replacements: Any) -> None:
        self._inner = inner
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def bent(session: Session, **replacements: Any) -> Session:
    return replace(session, client=Replacing(session.client, **replacements))  # type: ignore[arg-type]


async def test_a_site_that_answers_with_another_artifact_is_refused(world: World, tmp_path: Path) -> None:
    from agent.pull import pull
    from agent.sinks import open_sink

    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "app:v1")
    await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "app:v2")

    async with open_session(world.us.agent) as session:

        async def answer_v1(repository: Repository, _tag: Tag) -> Any:
            return await session.client.artifact_release(repository, Tag("v1"))

        with pytest.raises(IntegrityError, match="asked for app:v2"):
            await pull(
                bent(session, artifact_release=answer_v1),
                Repository("app"),
                Tag("v2"),
                lambda kind: open_sink(f"file:{tmp_path / 'out'}", kind),
                Progress(),
            )
    assert not (tmp_path / "out").exists()


async def test_a_consumer_remembers_the_newest_turn_it_saw(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "app:v1")
    old = await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")
    await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "app:v1")
    new = await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")
    directory = world.us.agent.identity_dir

    check_turn(directory, new.waybill)
    with pytest.raises(IntegrityError, match="E-ROLLBACK"):
        check_turn(directory, old.waybill)
    remember_turn(directory, old.waybill)  # what is remembered can be replaced only by whoever owns the directory
    check_turn(directory, old.waybill)


async def test_two_histories_of_a_peer_are_one_too_many(world: World, tmp_path: Path) -> None:
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")
    await world.us.stop()
    await world.eu.stop()
    async with open_site(world.us.directory) as us, open_site(world.eu.directory) as eu:
        bundle = eu.trust.ground()
        kept = await eu.catalog.read(lambda tx: tx.site_document("head/us"))
        assert kept is not None
        lines = kept.decode().split("\n")
        fork = sign_checkpoint(Checkpoint(lines[0], int(lines[1]), bytes(32)), us.keyring().signing)
        heads = Heads(SimpleNamespace(catalog=eu.catalog))  # type: ignore[arg-type]

        with pytest.raises(IntegrityError, match="two histories"):
            await heads.check(bundle, world.us.name, SimpleNamespace(checkpoint=fork.encode().decode()))  # type: ignore[arg-type]


async def test_a_floor_in_the_trust_bundle_holds_every_release_on_that_lane(world: World, tmp_path: Path) -> None:
    from carnet.keys import SigningKey

    await world.us.stop()
    await world.eu.stop()
    plain = parse_lane("us-eu=us:eu")
    floor = ReleaseFloor(approvals=(ApprovalFloor(role="officer", count=1),))
    lane = Lane.model_validate({**{name: getattr(plain, name) for name in Lane.model_fields}, "release_floor": floor})
    for site in (world.us, world.eu):
        async with open_site(site.directory) as opened:
            bundle = propose(opened.trust.current(), Change(lanes=(lane,)), datetime.now(UTC))
            envelope = sign_proposal(unsigned(bundle), SigningKey(bytes(range(32))))
            await opened.trust.import_bundle(envelope.encode(), root_fingerprint=None)
    await world.eu.start()
    await world.us.start()

    result = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")

    [delivery] = result.view.deliveries
    assert (delivery.state, delivery.reasons[0].rule) == ("release-hold", "release-floor")


async def test_what_is_sealed_upon_an_artifact_one_may_not_pull_waits(world: World, tmp_path: Path) -> None:
    secret = random.Random(3).randbytes(2_000_000)
    (tmp_path / "v1").write_bytes(secret)
    (tmp_path / "v2").write_bytes(secret[:1_900_000])
    await world.push(f"file:{tmp_path / 'v1'}", "eu:app:v1", declare={"classification": "public", "purpose": "no-pull"})
    await world.push(f"file:{tmp_path / 'v2'}", "eu:app:v2")

    with pytest.raises(Held, match="sealed upon app:v1"):
        await world.pull(world.eu, "app:v2", f"file:{tmp_path / 'out'}")


async def test_sealed_sizes_that_are_not_true_are_refused_at_commit(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        signing = session.identity.signing_key

        async def lie(transfer: Any, request: CommitRequest) -> Any:
            from agent.push import _releases
            from carnet.encoding import decode_base64, encode_base64
            from carnet.envelope import parse_envelope
            from carnet.release import open_release

            packing = PackingList.read_unverified(parse_envelope(request.packing_list))
            true = SegmentList.parse(decode_base64(request.segment_list))
            false = SegmentList.of((entry.id, entry.size + 1) for entry in true)
            own = next(one for one in request.releases if one.recipient == session.identity.id)
            key = open_release(own, packing, session.identity.kem_key, recipient=session.identity.id)
            bent_list = packing.model_copy(update={"segments": SegmentSummary.of(false)})
            changed = request.model_copy(
                update={
                    "packing_list": bent_list.sign(signing).to_json(),
                    "segment_list": encode_base64(false.encode()),
                    "releases": _releases(session, bent_list, key),
                }
            )
            return await session.client.commit(transfer, changed)

        with pytest.raises(PeerError, match="the signed list says"):
            await push_in(bent(session, commit=lie), f"file:{noise(tmp_path / 'a', 1000)}", "app:v1")


def test_a_packing_list_names_each_page_of_the_index_once() -> None:
    from tests.carnet.samples import packing_list

    packing = packing_list()
    page = IndexPage(id=packing.index[0].id, size=packing.index[0].size)

    with pytest.raises(ValueError, match="named twice"):
        PackingList.model_validate({**packing.model_dump(), "index": (page, page)})


async def test_an_image_built_again_under_the_tag_of_an_interrupted_push_is_pushed(world: World, tmp_path: Path) -> None:
    first = simple_image(tmp_path / "one", random.Random(1).randbytes(3_000_000))
    second = simple_image(tmp_path / "two", random.Random(2).randbytes(3_000_000))
    async with open_session(world.us.agent) as session:
        client = Replacing(session.client)

        async def stop(*_arguments: Any) -> Any:
            raise CarnetErrorForTest

        client.commit = stop  # type: ignore[attr-defined]
        with pytest.raises(CarnetErrorForTest):
            await push_in(replace(session, client=client), f"oci:{first.path}:v1", "eu:app:v1")  # type: ignore[arg-type]
        result = await push_in(session, f"oci:{second.path}:v1", "eu:app:v1")

    assert result.view.deliveries[0].state == "delivered"


class CarnetErrorForTest(Exception):
    """The machine stopped here."""


async def test_a_changed_declaration_under_an_interrupted_push_is_the_one_that_counts(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 8_000_000)
    async with open_session(world.us.agent) as session:
        first = await push_and_stop(session, 2, source, "eu:app:v1", declare={"classification": "public", "purpose": "deploy"})
        result, second = await push_recording(
            session, source, "eu:app:v1", declare={"classification": "internal", "purpose": "deploy"}
        )

    assert result.view.deliveries[0].state == "delivered"
    assert not set(first) & set(second)


async def test_fresh_works_when_there_is_a_base(world: World, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (tmp_path / "v1").write_bytes(data)
    (tmp_path / "v2").write_bytes(data + b"more")
    await world.push(f"file:{tmp_path / 'v1'}", "app:v1")
    progress = Progress()

    result = await world.push(f"file:{tmp_path / 'v2'}", "app:v2", fresh=True, progress=progress)

    assert result.view.deliveries[0].state == "delivered"
    assert progress.wire_bytes < 400_000


async def test_a_replaced_push_leaves_no_segment_behind(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        await push_and_stop(session, 3, noise(tmp_path / "a", 8_000_000), "app:v1")
        await push_in(session, f"file:{noise(tmp_path / 'b', 1000, 2)}", "app:v1", fresh=True)
    await world.us.stop()
    async with open_site(world.us.directory) as site:
        kept = await site.catalog.read(lambda tx: len(tx.stored_segments(after=None, limit=1000)))

    assert len(world.us.stored()) == kept == 2


async def test_bytes_sent_are_counted_for_every_segment(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 20_000_000)}", "eu:app:v1")
    [delivery] = result.view.deliveries
    from agent.settings import AgentSettings

    assert isinstance(world.us.agent, AgentSettings)
    assert delivery.segments_sent == delivery.segments
    assert delivery.bytes_sent == sum(path.stat().st_size for path in world.eu.stored())


async def test_an_older_push_held_back_does_not_replace_a_newer_one(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "hold-me-at-home"}
    hold = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 2, owner: the tests}
rules:
  - {id: anything, at: [offer, release, receipt], effect: allow, reason: for this test}
  - {id: wait, at: [receipt], when: {purpose: hold-me-at-home}, effect: hold, reason: for this test, remedy: wait}
"""
    world.us.set_policy(hold)
    await world.us.stop()
    await world.us.start()
    old = await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "app:v1", declare=said)
    await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "app:v1")
    world.us.set_policy(hold.rsplit("\n", 2)[0] + "\n")
    await world.us.stop()
    await world.us.start()

    async with open_session(world.us.agent) as session:
        await session.client.retry(old.view.transfer)
        view = await session.client.wait(old.view.transfer, lambda one: one.state == "held" and bool(one.reasons), 20)
    await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")

    assert view.deliveries[0].state == "held"
    assert (tmp_path / "out").read_bytes() == (tmp_path / "b").read_bytes()


async def test_a_damaged_store_holds_and_condemns_nobody(cold_world: World, tmp_path: Path) -> None:
    from agent.push import Wait

    world = cold_world
    await world.us.start()
    result = await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "app:v1", wait=Wait.RECEIVED)
    async with open_session(world.us.agent) as session:
        view = await session.client.wait(result.view.transfer, lambda one: one.state == "admitted", 20)
        path = max(world.us.stored(), key=lambda one: one.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CarnetError):
            await world.pull(world.us, "app:v1", f"file:{tmp_path / 'out'}")

    assert view.deliveries[0].state == "delivered"
    assert not (tmp_path / "out").exists()


async def test_each_policy_that_comes_into_force_is_an_entry_of_the_log(world: World) -> None:
    from collections import Counter

    from gateway.translog.verify import verify_directory

    async def changes() -> int:
        await world.us.stop()
        async with open_site(world.us.directory) as site:
            key = site.keyring().signing.public
        report = verify_directory(world.us.paths.log, origin=world.us.settings.log_origin, key=key)
        return Counter(report.entries_by_type)["policy-changed"]

    first = await changes()
    await world.us.start()
    second = await changes()
    text = (world.us.paths.policy / "policy.yaml").read_text(encoding="utf-8")
    world.us.set_policy(text.replace("version: 1", "version: 2"))
    await world.us.start()
    # It stops at once: what was logged is published all the same.
    third = await changes()

    assert (first, second, third) == (1, 1, 2)
