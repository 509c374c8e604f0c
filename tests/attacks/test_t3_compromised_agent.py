"""T3: whoever holds an agent's keys does what that agent's grants say and nothing more."""

from pathlib import Path
from typing import Any

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.errors import CarnetError, NotAuthorised, NotFound
from carnet.identifiers import Repository, SegmentId, Tag
from carnet.keys import SigningKey
from carnet.messages import CommitRequest
from carnet.packing import SegmentList
from tests.attacks.parties import Lie, bent, lying, new_agent, noise, segment_of
from tests.crossing.sites import World, push_in


async def test_another_lane_or_repository_is_refused_before_a_byte_moves(world: World, tmp_path: Path) -> None:
    source, before = noise(tmp_path / "a", 1000), world.us.stored()
    async with open_session(await new_agent(world.us, "mallory", "push,pull:team/*@home")) as session:
        for target in ("other:v1", "eu:team/app:v1", "team:v1", "team-x/app:v1"):
            with pytest.raises(NotAuthorised) as caught:
                await push_in(session, f"file:{source}", target)

            assert (caught.value.code, caught.value.exit_status) == ("E-NOT-ALLOWED", 7), target
            assert "mallory may not push" in caught.value.problem, target
    assert world.us.stored() == before


async def test_what_others_sent_is_neither_seen_nor_touched(world: World, tmp_path: Path) -> None:
    """The transfer, its rows and the segments of somebody else do not exist for an agent that may not pull it."""
    theirs = await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "eu:secret/merger:v1")
    transfer = theirs.view.transfer
    stored = [SegmentId(path.name) for path in world.us.stored()]
    async with open_session(await new_agent(world.us, "mallory", "push,pull:team/*@*")) as session:
        client = session.client
        calls: list[Any] = [lambda: client.show(transfer), lambda: client.cancel(transfer), lambda: client.retry(transfer)]
        calls += [lambda: client.put_segment(transfer, segment_of(b"x"), b"x")]
        calls += [lambda: client.artifact(Repository("secret/merger"), Tag("v1"))]
        calls += [lambda: client.artifact_release(Repository("secret/merger"), Tag("v1"))]
        calls += [lambda: client.delete_artifact(Repository("secret/merger"), Tag("v1"))]
        calls += [lambda one=one: client.segment(one) for one in stored]
        for call in calls:
            with pytest.raises(NotFound):
                await call()
        with pytest.raises(NotFound):
            [row async for row in client.rows(transfer)]

        assert (await client.list()).transfers == ()
        assert (await client.artifacts()).artifacts == ()
    view = await world.show(transfer)
    assert view.deliveries[0].state == "delivered"


async def test_the_listing_does_not_tell_the_names_of_what_may_not_be_pulled(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 1000)
    for name in ("aaa/secret:v1", "team/app:v1", "zzz/secret:v1"):
        await world.push(f"file:{source}", name)
    async with open_session(await new_agent(world.us, "mallory", "pull:team/*@*")) as session:
        page = await session.client.artifacts(limit=1)

    assert [one.repository for one in page.artifacts] == ["team/app"]
    assert page.next is None


async def test_a_push_only_agent_neither_pulls_nor_deletes_what_it_pushed(world: World, tmp_path: Path) -> None:
    async with open_session(await new_agent(world.us, "mallory", "push:team/*@home")) as session:
        await push_in(session, f"file:{noise(tmp_path / 'a', 1000)}", "team/app:v1")
        with pytest.raises(NotFound):
            await session.client.artifact_release(Repository("team/app"), Tag("v1"))
        with pytest.raises(NotFound):
            await session.client.delete_artifact(Repository("team/app"), Tag("v1"))


async def test_the_waybill_says_what_was_declared_or_is_refused(world: World, tmp_path: Path) -> None:
    """What policy advised upon is what is signed: name, lane, destinations and facts do not change after the advice."""
    source = noise(tmp_path / "a", 1000)
    changes: dict[str, Any] = {
        "repository": "other",
        "tag": "v9",
        "lane": "us-eu",
        "destinations": ("eu",),
        "media_type": "text/plain",
        "declarations": {"classification": "public"},
        "turn": 7,
    }
    async with open_session(world.us.agent) as session:
        for name, value in changes.items():

            def change(waybill: Any, name: str = name, value: Any = value) -> Any:
                return type(waybill).model_validate({**waybill.model_dump(), name: value})

            with pytest.raises(CarnetError, match=f"{name} differs from the declaration") as caught:
                await push_in(lying(session, Lie(waybill=change)), f"file:{source}", f"app:{name.replace('_', '-')}", fresh=True)
            assert caught.value.code == "E-REQUEST", name
            assert caught.value.remedy


async def test_segments_of_others_cannot_be_claimed_by_listing_them(world: World, tmp_path: Path) -> None:
    """A segment that somebody else sent counts as missing, so a commit neither pins it nor makes its sender a reader."""
    await world.push(f"file:{noise(tmp_path / 'a', 3_000_000)}", "secret/app:v1")
    foreign = {SegmentId(path.name): path.stat().st_size for path in world.us.stored()}

    async with open_session(await new_agent(world.us, "mallory", "push,pull:team/*@*")) as session:
        answers = []

        async def claim(transfer: Any, request: CommitRequest) -> Any:
            claiming = lying(session, Lie(segments=lambda own: SegmentList.of([*own, *foreign.items()])))
            answer = await claiming.client.commit(transfer, request)
            answers.append(answer)
            return answer

        with pytest.raises(CarnetError):
            await push_in(bent(session, commit=claim), f"file:{noise(tmp_path / 'b', 1000, 2)}", "team/app:v1", wait=Wait.DECIDED)
        assert set(answers[0].missing) == set(foreign)
        for one in foreign:
            with pytest.raises(NotFound):
                await session.client.segment(one)


async def test_a_packing_list_of_another_key_is_refused(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        with pytest.raises(CarnetError) as caught:
            await push_in(lying(session, Lie(signed_by=SigningKey(bytes(32)))), f"file:{noise(tmp_path / 'a', 1000)}", "app:v1")

    assert (caught.value.code, caught.value.exit_status) == ("E-SIGNATURE", 6)
