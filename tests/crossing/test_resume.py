"""P6: whatever is interrupted, the same command continues, from any machine with the same identity, and sends nothing twice."""

import asyncio
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.push import PushResult, Wait
from agent.session import Session, open_session
from agent.settings import AgentSettings
from carnet.errors import Conflict, IntegrityError
from carnet.flow.client import PeerClient
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId, TransferId
from carnet.suites import SUITE_1, segment_id
from tests.crossing.sites import World, push_in


class Interrupted(Exception):
    """The machine stopped here."""


@dataclass
class CuttingClient:
    """A client that works until `limit` segments went, then fails as a killed process would: without a word."""

    inner: PeerClient
    limit: int
    sent: list[SegmentId]
    begun: int = 0

    async def put_segment(self, transfer: TransferId, segment: SegmentId, body: bytes, row: bytes | None = None) -> bool:
        if self.begun >= self.limit:
            while len(self.sent) < self.limit:
                await asyncio.sleep(0)
            raise Interrupted
        self.begun += 1
        is_new = await self.inner.put_segment(transfer, segment, body, row)
        self.sent.append(segment)
        return is_new

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def push_and_stop(session: Session, limit: int, source: Path, target: str, **changes: Any) -> list[SegmentId]:
    """Push until `limit` segments are there, then stop; return which."""
    client = CuttingClient(session.client, limit, [])
    cut = Session(session.settings, session.identity, client, session.bundle, session.kem_statements)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        await push_in(cut, f"file:{source}", target, **changes)
    return client.sent


async def push_recording(session: Session, source: Path, target: str, **changes: Any) -> tuple[PushResult, list[SegmentId]]:
    """Push to the end; return the result and what was sent."""
    client = CuttingClient(session.client, 1_000_000, [])
    recording = Session(session.settings, session.identity, client, session.bundle, session.kem_statements)  # type: ignore[arg-type]
    return await push_in(recording, f"file:{source}", target, **changes), client.sent


def noise(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


@pytest.mark.parametrize("limit", [0, 1, 5, 11])
async def test_a_push_cut_after_any_segment_continues_and_sends_none_again(world: World, tmp_path: Path, limit: int) -> None:
    source = noise(tmp_path / "a", 24_000_000)
    async with open_session(world.us.agent) as session:
        first = await push_and_stop(session, limit, source, "eu:app:v1")
        result, second = await push_recording(session, source, "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert len(first) == limit
    assert not set(first) & set(second)
    assert result.resumed
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_another_machine_with_the_same_identity_continues(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 12_000_000)
    async with open_session(world.us.agent) as session:
        first = await push_and_stop(session, 3, source, "eu:app:v1")
    shutil.copytree(world.us.agent_dir, tmp_path / "other-machine")
    (tmp_path / "copy").mkdir()
    shutil.copy(source, tmp_path / "copy" / "a")
    settings = AgentSettings(url=world.us.settings.url, site=world.us.name, identity_dir=tmp_path / "other-machine" / "identity")

    async with open_session(settings) as session:
        result, second = await push_recording(session, tmp_path / "copy" / "a", "eu:app:v1")

    assert result.resumed
    assert not set(first) & set(second)


async def test_a_gateway_that_was_killed_in_between_knows_what_it_acknowledged(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 12_000_000)
    async with open_session(world.us.agent) as session:
        first = await push_and_stop(session, 3, source, "eu:app:v1")
    await world.us.stop()
    await world.us.start()

    async with open_session(world.us.agent) as session:
        result, second = await push_recording(session, source, "eu:app:v1")

    assert result.view.deliveries[0].state == "delivered"
    assert not set(first) & set(second)


async def test_a_source_that_changed_in_between_is_pushed_as_it_is_now(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 12_000_000)
    async with open_session(world.us.agent) as session:
        await push_and_stop(session, 4, source, "eu:app:v1")
        data = source.read_bytes()
        source.write_bytes(data[:3_000_000] + b"changed" + data[3_100_000:])
        result, _ = await push_recording(session, source, "eu:app:v1")
    await world.pull(world.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert result.view.deliveries[0].state == "delivered"
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


async def test_a_push_that_was_committed_is_found_and_sends_nothing(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 6_000_000)
    said = {"classification": "public", "purpose": "wait-at-release"}
    async with open_session(world.us.agent) as session:
        first, _ = await push_recording(session, source, "eu:app:v1", declare=said)
        again, sent = await push_recording(session, source, "eu:app:v1", declare=said)

    assert again.view.transfer == first.view.transfer
    assert sent == []


async def test_a_different_source_for_a_tag_that_waits_starts_a_transfer_of_its_own(world: World, tmp_path: Path) -> None:
    said = {"classification": "public", "purpose": "wait-at-release"}
    async with open_session(world.us.agent) as session:
        first, _ = await push_recording(session, noise(tmp_path / "a", 1_000_000), "eu:app:v1", declare=said)
        second, _ = await push_recording(session, noise(tmp_path / "b", 1_000_000, 2), "eu:app:v1", declare=said)

    assert first.view.transfer != second.view.transfer
    assert first.view.digest != second.view.digest


async def test_fresh_begins_again_and_the_open_transfer_is_cancelled(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 8_000_000)
    async with open_session(world.us.agent) as session:
        await push_and_stop(session, 2, source, "eu:app:v1")
        [before] = (await session.client.list(states=("receiving",))).transfers
        result, _ = await push_recording(session, source, "eu:app:v1", fresh=True)
        after = await session.client.show(before.transfer)

    assert result.view.transfer != before.transfer
    assert after.state == "cancelled"


async def test_a_segment_right_after_a_cancellation_is_refused_and_none_of_its_bytes_stay(world: World, tmp_path: Path) -> None:
    body = random.Random(3).randbytes(100_000)
    async with open_session(world.us.agent) as session:
        await push_and_stop(session, 2, noise(tmp_path / "a", 8_000_000), "eu:app:v1")
        [open_one] = (await session.client.list(states=("receiving",))).transfers
        before = len(world.us.stored())
        await session.client.cancel(open_one.transfer, "not this one")
        with pytest.raises(Conflict, match="E-STATE"):
            await session.client.put_segment(open_one.transfer, segment_id(SUITE_1, body), body, b"row")
        after = len(world.us.stored())

    assert (before, after) == (2, 0)


async def test_a_source_that_changes_while_it_is_read_is_refused(world: World, tmp_path: Path) -> None:
    source = noise(tmp_path / "a", 12_000_000)

    async with open_session(world.us.agent) as session:
        client = CuttingClient(session.client, 1_000_000, [])
        put = client.put_segment

        async def change_then_put(*arguments: Any) -> bool:
            if not client.sent:
                with source.open("ab") as file:
                    file.write(b"more")
            return await put(*arguments)

        client.put_segment = change_then_put  # type: ignore[method-assign]
        changing = Session(session.settings, session.identity, client, session.bundle, session.kem_statements)  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match=r"E-SOURCE-CHANGED|E-DIGEST"):
            await push_in(changing, f"file:{source}", "eu:app:v1")


async def test_rows_are_gone_once_a_push_is_committed(world: World, tmp_path: Path) -> None:
    async with open_session(world.us.agent) as session:
        result, _ = await push_recording(session, noise(tmp_path / "a", 4_000_000), "app:v1")
        rows = [row async for row in session.client.rows(result.view.transfer)]

    assert rows == []


async def test_two_pushes_at_once_of_one_tag_end_in_one_order(world: World, tmp_path: Path) -> None:
    sources = [noise(tmp_path / name, 1_000_000, seed) for seed, name in enumerate("ab")]

    async def one(source: Path) -> PushResult | BaseException:
        async with open_session(world.us.agent) as session:
            return await push_in(session, f"file:{source}", "app:latest", fresh=True, wait=Wait.DELIVERED, progress=Progress())

    results = await asyncio.gather(*(one(source) for source in sources), return_exceptions=True)
    delivered = [result for result in results if isinstance(result, PushResult)]
    await world.pull(world.us, "app:latest", f"file:{tmp_path / 'out'}")

    assert delivered
    assert (tmp_path / "out").read_bytes() in [source.read_bytes() for source in sources]


async def test_a_push_whose_tag_moved_on_meanwhile_follows_the_new_one(world: World, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from agent.enroll import enroll
    from tests.crossing.sites import invite_agent

    await enroll(await invite_agent(world.us, "second"), tmp_path / "second", datetime.now(UTC))
    second = AgentSettings(url=world.us.settings.url, site=world.us.name, identity_dir=tmp_path / "second")
    source = noise(tmp_path / "a", 8_000_000)
    async with open_session(world.us.agent) as session, open_session(second) as other:
        first = await push_and_stop(session, 2, source, "eu:app:v1")
        between = await push_in(other, f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:app:v1")
        result, again = await push_recording(session, source, "eu:app:v1")

    assert between.view.deliveries[0].state == result.view.deliveries[0].state == "delivered"
    assert not set(first) & set(again)
