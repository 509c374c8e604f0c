"""One push that is killed somewhere and run again: what must hold after it, wherever the kill was."""

import asyncio
import contextlib
import random
from pathlib import Path

from agent.push import PushResult
from agent.session import Session, open_session
from carnet.errors import CarnetError, NotFound
from carnet.identifiers import SegmentId
from tests.crossing.sites import World, know_each_other, push_in
from tests.crossing.test_resume import CuttingClient
from tests.promises.border import Border, ServedSite, kept_segments, verified_log

NAME = "app:v1"
SIZE = 7_000_000
DEADLINE_S = 60


def noise(path: Path, size: int = SIZE, seed: int = 1) -> Path:
    """Write bytes that do not compress; return the path."""
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


class Acknowledged:
    """The segments that us acknowledged to the agent, over all attempts, and how often each was."""

    def __init__(self) -> None:
        self.segments: list[SegmentId] = []

    def watch(self, session: Session) -> Session:
        """Return the session with its puts recorded."""
        client = CuttingClient(session.client, 1_000_000, self.segments)
        return Session(session.settings, session.identity, client, session.bundle, session.kem_statements)  # type: ignore[arg-type]


async def push_once(world: World, source: Path, acknowledged: Acknowledged) -> PushResult:
    """Push as the agent of us does."""
    async with open_session(world.us.agent) as session:
        return await push_in(acknowledged.watch(session), f"file:{source}", f"eu:{NAME}")


async def push_killed(border: Border, victim: ServedSite, source: Path, acknowledged: Acknowledged) -> bool:
    """Push while the armed failpoint of `victim` waits; tell whether it struck. The push has ended, one way or the other."""
    assert victim.process is not None
    pushing = asyncio.create_task(push_once(border.world, source, acknowledged))
    dying = asyncio.create_task(victim.process.wait())
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([pushing, dying], return_when=asyncio.FIRST_COMPLETED)
    struck = dying.done()
    pushing.cancel()
    dying.cancel()
    with contextlib.suppress(asyncio.CancelledError, CarnetError):
        await pushing
    if struck:
        await victim.dead()
    return struck


async def is_visible_whole(border: Border, source: Path, out: Path) -> bool:
    """Tell whether the artifact is at eu; if it is, it must be what was sent, to the bit (P3)."""
    out.unlink(missing_ok=True)
    try:
        await border.world.pull(border.eu, NAME, f"file:{out}")
    except NotFound:
        assert not out.exists()
        return False
    assert out.read_bytes() == source.read_bytes()
    return True


async def check_recovery(border: Border, victim: ServedSite, source: Path, tmp_path: Path, acknowledged: Acknowledged) -> None:
    """After a kill: nothing acknowledged is lost, nothing partial shows, the same command ends it, both logs verify."""
    before = list(acknowledged.segments)
    if victim is border.us:
        assert set(before) <= await kept_segments(victim)
    victim.failpoint, victim.wrapper = None, ()
    await victim.start()
    if border.eu.process is not None:  # type: ignore[attr-defined]
        await is_visible_whole(border, source, tmp_path / "early")
    await know_each_other(border.world)
    async with asyncio.timeout(DEADLINE_S):
        result = await push_once(border.world, source, acknowledged)

    assert result.view.deliveries[0].state == "delivered"
    assert not set(before) & set(acknowledged.segments[len(before) :]), "an acknowledged segment was sent twice"
    assert await is_visible_whole(border, source, tmp_path / "out")
    await border.us.stop()
    await border.eu.stop()
    for site in (border.us, border.eu):
        assert await verified_log(site)
        await kept_segments(site)
    entries = await verified_log(border.eu)
    assert entries["artifact-visible"] == entries["receipt-delivered"]
    assert entries["artifact-visible"] in {1, 2}, "once a push: the first may have been delivered, its answer lost"


def served(border: Border, name: str) -> ServedSite:
    """Return a site that is a process of its own."""
    site = next(one for one in border.world.sites if one.name == name)
    assert isinstance(site, ServedSite)
    return site
