"""Whatever stage of a pull fails, its sink leaves nothing: no name, no temporary, no open descriptor; then it can be pulled."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.ports import PartHead, PartWriter, Sink
from agent.pull import pull
from agent.session import open_session
from agent.sinks import open_sink
from carnet.errors import CarnetError, Unavailable
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, SegmentId, Tag
from tests.attacks.parties import Replacing
from tests.crossing.sites import LiveSite, push_in
from tests.faults.alone import us_alone
from tests.faults.leftovers import held, nothing_left
from tests.promises.kills import noise

STAGES = ("fetch", "open", "begin", "part", "write", "close", "commit", "rename")


class Breaking(Exception):
    """What a stage raises."""


@dataclass
class FailingSink:
    """A sink that fails at one stage, after it has done a part of it."""

    inner: Sink
    at: str

    def begin(self, root: PartHead) -> None:
        self.inner.begin(root)
        self._fail("begin")

    def part(self, head: PartHead) -> PartWriter:
        writer = self.inner.part(head)
        self._fail("part")
        return FailingWriter(writer, self._fail)

    def commit(self) -> None:
        self._fail("commit")
        self.inner.commit()

    def abort(self) -> None:
        self.inner.abort()

    def _fail(self, stage: str) -> None:
        if stage == self.at:
            raise Breaking


@dataclass
class FailingWriter:
    inner: PartWriter
    fail: Callable[[str], None]

    def write(self, data: memoryview, /) -> None:
        self.inner.write(data[: len(data) // 2])
        self.fail("write")
        self.inner.write(data[len(data) // 2 :])

    def close(self) -> None:
        self.fail("close")
        self.inner.close()


@pytest.fixture
async def us(template: Path, tmp_path: Path) -> AsyncIterator[LiveSite]:
    async with us_alone(template, tmp_path / "world") as site:
        await site.start()
        yield site


async def pull_failing(site: LiveSite, sink: str, at: str) -> None:
    """Pull into `sink`; the stage `at` fails, and so does what comes from the site after the index, if it is one of those."""
    async with open_session(site.agent) as session:
        fetched: list[SegmentId] = []

        async def segment(wanted: SegmentId) -> bytes:
            data = await session.client.segment(wanted)
            fetched.append(wanted)
            if len(fetched) > 2 and at == "fetch":
                raise Unavailable("E-UNREACHABLE", "the link is cut")
            return bytes(len(data)) if len(fetched) > 2 and at == "open" else data

        changed = replace(session, client=Replacing(session.client, segment=segment))
        await pull(
            changed, Repository("app"), Tag("v1"), lambda kind: FailingSink(open_sink(sink, kind, tag="v1"), at), Progress()
        )  # fmt: skip


def refuse_renames_below(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse every rename into `directory`, for want of space."""
    rename = os.rename

    def refusing(source: Any, target: Any, **rest: Any) -> None:
        if os.fsdecode(target).startswith(f"{directory}/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target, **rest)

    monkeypatch.setattr(os, "rename", refusing)


@pytest.mark.parametrize("kind", ["file", "dir", "oci"])
async def test_whatever_stage_fails_nothing_is_left_of_a_pull(
    us: LiveSite, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, place = tmp_path / "tree", tmp_path / "place"
    (tree / "inner").mkdir(parents=True)
    place.mkdir()
    for number in range(3):
        noise(tree / "inner" / str(number), 3_000_000, number)
    async with open_session(us.agent) as session:
        await push_in(session, f"dir:{tree}" if kind == "dir" else f"file:{tree}/inner/1", "app:v1")
    sink = f"{kind}:{place}/out" + (":v1" if kind == "oci" else "")
    before = held()

    for stage in STAGES:
        with pytest.MonkeyPatch.context() as patched:
            if stage == "rename":
                refuse_renames_below(place, patched)
            with pytest.raises((Breaking, CarnetError)) as failed:
                await pull_failing(us, sink, stage)
        assert isinstance(failed.value, Breaking) or failed.value.code in {"E-UNREACHABLE", "E-SEGMENT-CORRUPT", "E-DISK-FULL"}
        assert os.listdir(place) == [], stage
        del failed
        await nothing_left(before, us.agent_dir)

    await pull_failing(us, sink, "nowhere")
    assert os.listdir(place) == ["out"]
    await nothing_left(before, us.agent_dir)
