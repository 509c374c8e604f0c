"""P3: wherever it is killed, cut or damaged, what a site or a sink shows is the whole artifact, to the bit, or nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.pull import pull
from agent.session import open_session
from agent.sinks import open_sink
from carnet.errors import CarnetError, NotFound
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, Tag
from tests.agent.layouts import simple_image
from tests.crossing.sites import know_each_other
from tests.promises.border import Border
from tests.promises.kills import Acknowledged, check_recovery, noise, push_killed, served


class Cut(Exception):
    """The consumer's machine stopped here."""


class Breaking:
    """A client that stops the consumer at its `left`-th segment."""

    def __init__(self, inner: Any, left: int) -> None:
        self._inner = inner
        self._left = left

    async def segment(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Cut
        return await self._inner.segment(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("kind", ["file", "oci"])
async def test_a_pull_cut_after_any_segment_leaves_nothing_under_the_name(border: Border, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        source = f"file:{noise(tmp_path / 'source')}"
    else:
        image = simple_image(tmp_path / "source", noise(tmp_path / "noise").read_bytes())
        source = f"oci:{image.path}:v1"
    await border.world.push(source, "eu:app:v1")
    out = tmp_path / "out" / "it"
    out.parent.mkdir()

    async with open_session(border.eu.agent) as session:
        for left in range(5):
            broken = replace(session, client=Breaking(session.client, left))  # type: ignore[arg-type]
            with pytest.raises((Cut, BaseExceptionGroup)):
                await pull(
                    broken,
                    Repository("app"),
                    Tag("v1"),
                    lambda found: open_sink(f"{kind}:{out}", found, tag="v1", name="app:v1"),
                    Progress(),
                )
            assert not out.exists() or not (out / "index.json").exists()
    if kind == "file":
        assert list(out.parent.iterdir()) == []
    await border.world.pull(border.eu, "app:v1", f"{kind}:{out}")
    if kind == "file":
        assert out.read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("change", ["cut", "flipped", "gone"])
async def test_what_was_damaged_before_its_key_came_is_never_visible(border: Border, tmp_path: Path, change: str) -> None:
    said = {"classification": "public", "purpose": "wait-at-release"}
    result = await border.world.push(f"file:{noise(tmp_path / 'a')}", "eu:app:v1", declare=said)
    path = max(border.eu.stored(), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(data if change == "flipped" else data[:-1])
    await border.us.stop()
    text = (border.us.paths.policy / "policy.yaml").read_text()
    border.us.set_policy(text.replace("purpose: wait-at-release", "purpose: nothing-of-the-kind"))
    await border.us.start()
    await know_each_other(border.world)

    async with open_session(border.us.agent) as session:
        await session.client.retry(result.view.transfer)
        view = await session.client.wait(result.view.transfer, lambda one: one.deliveries[0].state == "held", 20)

    assert view.deliveries[0].reasons[0].rule == "store"
    with pytest.raises(CarnetError):
        await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


async def test_while_a_tag_moves_a_reader_gets_the_old_or_the_new_whole(border: Border, tmp_path: Path) -> None:
    versions = [noise(tmp_path / str(number), 1_500_000, number) for number in range(3)]
    await border.world.push(f"file:{versions[0]}", "eu:app:v1")
    done = asyncio.Event()
    seen: set[int] = set()

    async def read() -> None:
        out = tmp_path / "out"
        while not done.is_set():
            await border.world.pull(border.eu, "app:v1", f"file:{out}")
            data = out.read_bytes()
            seen.add(next(number for number, path in enumerate(versions) if path.read_bytes() == data))
            out.unlink()

    reading = asyncio.create_task(read())
    for version in versions[1:]:
        await border.world.push(f"file:{version}", "eu:app:v1")
    done.set()
    await reading
    await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'last'}")

    assert seen
    assert (tmp_path / "last").read_bytes() == versions[-1].read_bytes()


@pytest.mark.parametrize("number", [6, *(pytest.param(number, marks=pytest.mark.full) for number in range(1, 30) if number != 6)])
async def test_a_destination_killed_at_any_commit_shows_all_or_nothing(
    served_border: Border, tmp_path: Path, number: int
) -> None:
    border = served_border
    victim = served(border, "eu")
    victim.failpoint = ("catalog", "committed", number)
    await border.start()
    victim.arm()
    acknowledged = Acknowledged()
    source = noise(tmp_path / "source")

    if not await push_killed(border, victim, source, acknowledged):
        await victim.stop()

    await check_recovery(border, victim, source, tmp_path, acknowledged)  # looks at once after the restart, and at the end


async def test_what_is_nowhere_is_not_found(border: Border, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")
    assert list(tmp_path.glob("out*")) == []
