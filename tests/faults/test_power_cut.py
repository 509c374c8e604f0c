"""Power cuts: the process is killed at a durable step and everything that only the page cache knew is gone with it.

The site's directory is an ext4 in a file, behind a loop device with direct I/O; a copy of that file is what a disk would have.
"""

import asyncio
from pathlib import Path

import pytest

from agent.session import open_session
from tests.crossing.test_resume import push_and_stop
from tests.faults.mounts import Image, Mounts
from tests.promises.border import Border, ServedSite, kept_segments
from tests.promises.kills import Acknowledged, check_recovery, noise, push_killed, served
from tests.promises.test_p4_acknowledged_is_durable import LOG_STEPS, STORE_STEPS

SAMPLE = [
    ("us", "store", "directory-synced", 2),
    ("eu", "log", "swapped", 2),
]
WHOLE = [
    (site, *step)
    for site in ("us", "eu")
    for step in (
        *(("store", name, 2) for name in STORE_STEPS),
        *(("catalog", name, number) for name in ("commit", "committed") for number in (1, 3, 5, 8, 11, 14, 18)),
        *(("log", name, 2) for name in LOG_STEPS),
    )
]


async def cut_at(border: Border, image: Image, victim: ServedSite, tmp_path: Path) -> None:
    """Push until the armed failpoint kills the site, cut its power, then check everything."""
    await border.start()
    victim.arm()
    acknowledged = Acknowledged()
    source = noise(tmp_path / "source")
    if await push_killed(border, victim, source, acknowledged):
        image.cut_power()
    else:
        await victim.stop()
    await check_recovery(border, victim, source, tmp_path, acknowledged)


@pytest.mark.parametrize(("site", "kind", "step", "number"), SAMPLE)
async def test_power_cut_at_a_durable_step_loses_nothing_acknowledged(
    served_border: Border, mounts: Mounts, tmp_path: Path, site: str, kind: str, step: str, number: int
) -> None:
    victim = served(served_border, site)
    victim.failpoint = (kind, step, number)
    await cut_at(served_border, mounts.image_over(victim.directory), victim, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(("site", "kind", "step", "number"), WHOLE)
async def test_power_cut_at_any_durable_step_loses_nothing_acknowledged(
    served_border: Border, mounts: Mounts, tmp_path: Path, site: str, kind: str, step: str, number: int
) -> None:
    victim = served(served_border, site)
    victim.failpoint = (kind, step, number)
    await cut_at(served_border, mounts.image_over(victim.directory), victim, tmp_path)


async def acknowledged_and_kept(border: Border, image: Image, source: Path) -> tuple[int, int]:
    """Push two segments to us, cut its power the moment the second is acknowledged; return how many there were and are."""
    await border.start()
    us = served(border, "us")
    async with asyncio.timeout(60), open_session(us.agent) as session:
        sent = await push_and_stop(session, 2, source, "eu:app:v1")
        us.kill()
    await us.dead()
    image.cut_power()
    try:
        kept = await kept_segments(us)
    except Exception:  # noqa: BLE001 - whatever it says, they cannot be read
        kept = set()
    return len(sent), len(kept & set(sent))


async def test_power_cut_the_moment_a_segment_is_acknowledged_finds_it_on_the_disk(
    served_border: Border, mounts: Mounts, tmp_path: Path
) -> None:
    image = mounts.image_over(served_border.us.directory)
    sent, kept = await acknowledged_and_kept(served_border, image, noise(tmp_path / "source"))

    assert sent == kept == 2


async def test_a_store_that_skips_its_syncs_is_caught_by_a_power_cut(
    served_border: Border, mounts: Mounts, tmp_path: Path
) -> None:
    """The check above can fail: the same, with a build that is broken on purpose."""
    us = served(served_border, "us")
    us.failpoint = ("store", "no-sync", 0)
    image = mounts.image_over(us.directory)
    sent, kept = await acknowledged_and_kept(served_border, image, noise(tmp_path / "source"))

    assert sent == 2
    assert kept < 2
