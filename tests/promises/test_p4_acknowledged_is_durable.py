"""P4: the real process, killed at each durable step from push to receipt, keeps what it acknowledged."""

import asyncio
from pathlib import Path

import pytest

from agent.session import open_session
from tests.crossing.test_resume import push_and_stop
from tests.promises.border import Border, ServedSite, kept_segments
from tests.promises.kills import Acknowledged, check_recovery, noise, push_killed, served

STORE_STEPS = ("stage", "staged", "sync", "synced", "rename", "renamed", "directory-sync", "directory-synced")
LOG_STEPS = (
    *("stage", "staged", "checked", "swap", "swapped", "publish", "published", "checkpoint-published"),
    *("written", "synced", "renamed", "directory-synced"),
)
SAMPLE = [
    ("us", "store", "renamed", 2),
    ("eu", "catalog", "commit", 3),
    ("eu", "log", "published", 2),
]
"""Failed, and failed but persisted: a step of each adapter at each site."""
WHOLE = [
    (site, *step)
    for site in ("us", "eu")
    for step in (
        *(("store", name, number) for name in STORE_STEPS for number in (1, 3)),
        *(("catalog", name, number) for name in ("commit", "committed") for number in range(1, 25)),
        *(("log", name, number) for name in LOG_STEPS for number in (1, 2, 3)),
    )
]


async def kill_at(border: Border, tmp_path: Path, site: str, kind: str, step: str, number: int) -> bool:
    """Kill the site at the failpoint during a push, then check everything; tell whether the failpoint struck."""
    victim = served(border, site)
    victim.failpoint = (kind, step, number)
    await border.start()
    victim.arm()
    acknowledged = Acknowledged()
    source = noise(tmp_path / "source")
    struck = await push_killed(border, victim, source, acknowledged)
    if not struck:
        await victim.stop()
    await check_recovery(border, victim, source, tmp_path, acknowledged)
    return struck


@pytest.mark.parametrize(("site", "kind", "step", "number"), SAMPLE)
async def test_killed_at_a_durable_step_nothing_acknowledged_is_lost(
    served_border: Border, tmp_path: Path, site: str, kind: str, step: str, number: int
) -> None:
    assert await kill_at(served_border, tmp_path, site, kind, step, number)


@pytest.mark.full
@pytest.mark.parametrize(("site", "kind", "step", "number"), WHOLE)
async def test_killed_at_any_durable_step_nothing_acknowledged_is_lost(
    served_border: Border, tmp_path: Path, site: str, kind: str, step: str, number: int
) -> None:
    await kill_at(served_border, tmp_path, site, kind, step, number)  # a late number may not be reached: then it is a plain push


async def test_killed_the_moment_a_put_is_acknowledged_the_segment_is_there(served_border: Border, tmp_path: Path) -> None:
    border = served_border
    await border.start()
    us = border.us
    assert isinstance(us, ServedSite)
    source = noise(tmp_path / "source")
    sent = []
    for limit in (1, 2):
        async with asyncio.timeout(60), open_session(us.agent) as session:
            sent += await push_and_stop(session, limit, source, "eu:app:v1")
            us.kill()
        await us.dead()

        assert set(sent) <= await kept_segments(us)
        await us.start()
    assert len(sent) == len(set(sent)) == 3
