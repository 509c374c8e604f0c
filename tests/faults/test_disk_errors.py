"""Errors that a disk gives back while the gateway runs: EIO at a sync, a write, a read."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from carnet.errors import CarnetError
from tests.crossing.sites import know_each_other
from tests.faults.tracing import failing
from tests.promises.border import Border, ServedSite
from tests.promises.kills import Acknowledged, check_recovery, noise, push_killed, served


def pid_of(site: ServedSite) -> int:
    assert site.process is not None
    return site.process.pid


@pytest.mark.parametrize(
    ("name", "number", "call"),
    [
        ("us", 1, "fdatasync"),
        *(
            pytest.param(name, number, call, marks=pytest.mark.full)
            for name in ("us", "eu")
            for number in (1, 4, 9)
            for call in ("fdatasync", "fsync")
        ),
    ],
)
async def test_a_sync_that_fails_ends_the_process_and_acknowledges_nothing(
    served_border: Border, strace: str, tmp_path: Path, name: str, number: int, call: str
) -> None:
    """After a failed sync the page cache cannot be believed; who starts the process again finds what is really there."""
    victim = served(served_border, name)
    await served_border.start()
    acknowledged = Acknowledged()
    source = noise(tmp_path / "source")
    async with failing(strace, pid_of(victim), call, f"error=EIO:when={number}"):
        struck = await push_killed(served_border, victim, source, acknowledged)

    assert struck
    assert any("E-DISK" in line for line in victim.said)
    assert not any("Traceback" in line for line in victim.said), "".join(victim.said[-60:])
    await check_recovery(served_border, victim, source, tmp_path, acknowledged)


async def test_a_segment_that_cannot_be_read_fails_its_pull_and_nothing_else(
    served_border: Border, strace: str, tmp_path: Path
) -> None:
    eu = served(served_border, "eu")
    await served_border.start()
    source = noise(tmp_path / "source")
    await served_border.world.push(f"file:{source}", "eu:app:v1")
    await served_border.world.push(f"file:{noise(tmp_path / 'other', 1000, 5)}", "eu:other:v1")
    largest = max(eu.stored(), key=lambda path: path.stat().st_size)
    async with failing(strace, pid_of(eu), "read,pread64", "error=EIO", path=largest):
        with pytest.raises(CarnetError) as failed:
            await served_border.world.pull(eu, "app:v1", f"file:{tmp_path / 'out'}")
        await served_border.world.pull(eu, "other:v1", f"file:{tmp_path / 'other-out'}")

    assert failed.value.remedy
    assert not (tmp_path / "out").exists()
    await served_border.world.pull(eu, "app:v1", f"file:{tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


@pytest.mark.full
@pytest.mark.parametrize("name", ["us", "eu"])
async def test_a_catalog_that_cannot_be_written_stops_the_site_and_loses_nothing(
    served_border: Border, strace: str, tmp_path: Path, name: str
) -> None:
    """SQLite reports EIO at any write: whether the site stops or answers with an error, what it acknowledged is there."""
    victim = served(served_border, name)
    await served_border.start()
    await know_each_other(served_border.world)
    acknowledged = Acknowledged()
    source = noise(tmp_path / "source")
    async with failing(strace, pid_of(victim), "pwrite64", "error=EIO:when=3"):
        pushing = asyncio.create_task(push_killed(served_border, victim, source, acknowledged))
        with contextlib.suppress(CarnetError):
            await pushing
    await victim.stop()
    assert not any("Traceback" in line for line in victim.said), "".join(victim.said[-30:])
    await check_recovery(served_border, victim, source, tmp_path, acknowledged)
