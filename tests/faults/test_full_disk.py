"""A disk that is full to the last byte, or read-only: what a site still does, and that it goes on when there is room."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.errors import CarnetError
from carnet.flow.link import Timeouts
from tests.crossing.sites import know_each_other, push_in
from tests.faults.mounts import Mounts, remount
from tests.promises.border import ROOT, Border, ServedSite, kept_segments, verified_log
from tests.promises.kills import Acknowledged, noise, served

ONCE = Timeouts(retry_s=0.0)
SMALL_MIB = 64


def fill(site: ServedSite) -> Path:
    """Write a file of somebody else until the file system of the site is full; return it."""
    path = site.directory / "filler"
    with path.open("wb", buffering=0) as out:
        for piece in (1 << 20, 4096, 512):
            try:
                while True:
                    out.write(bytes(piece))
            except OSError:
                continue
    return path


async def test_a_full_origin_refuses_with_what_to_do_and_goes_on_without_a_restart(
    served_border: Border, mounts: Mounts, tmp_path: Path
) -> None:
    us = served(served_border, "us")
    mounts.small_over(us.directory, SMALL_MIB)
    await served_border.start()
    acknowledged = Acknowledged()
    source = noise(tmp_path / "source")
    filler = fill(us)
    async with open_session(us.agent, timeouts=ONCE) as session:
        with pytest.raises(CarnetError) as refused:
            await push_in(acknowledged.watch(session), f"file:{source}", "eu:app:v1")
        assert refused.value.code == "E-DISK-FULL", refused.value
        assert refused.value.exit_status == 5
        assert refused.value.remedy
        filler.unlink()
        result = await push_in(acknowledged.watch(session), f"file:{source}", "eu:app:v1")

    assert result.view.deliveries[0].state == "delivered"
    assert len(acknowledged.segments) == len(set(acknowledged.segments))
    assert us.process is not None
    assert us.process.returncode is None, "it did not have to be started again"
    await us.stop()
    assert set(acknowledged.segments) <= await kept_segments(us)
    assert await verified_log(us)


@pytest.mark.full
async def test_a_full_destination_serves_what_it_has_and_takes_the_delivery_when_there_is_room(
    served_border: Border, mounts: Mounts, tmp_path: Path
) -> None:
    eu, world = served(served_border, "eu"), served_border.world
    mounts.small_over(eu.directory, SMALL_MIB)
    await served_border.start()
    small = noise(tmp_path / "small", 1000, 5)
    await world.push(f"file:{small}", "eu:small:v1")
    source = noise(tmp_path / "source")
    filler = fill(eu)
    pushed = await world.push(f"file:{source}", "eu:app:v1", wait=Wait.RECEIVED)
    waiting = await world.until(pushed.view.transfer, lambda view: view.deliveries[0].error is not None, 60)
    assert waiting.deliveries[0].state in {"sending", "retrying"}
    assert "E-DISK-FULL" in (waiting.deliveries[0].error or ""), waiting.deliveries[0].error
    filler.unlink()

    await world.until(pushed.view.transfer, lambda view: view.deliveries[0].state == "delivered", 100)
    for name, expected in (("app:v1", source), ("small:v1", small)):
        await world.pull(eu, name, f"file:{tmp_path / 'out'}")
        assert (tmp_path / "out").read_bytes() == expected.read_bytes()
        (tmp_path / "out").unlink()
    assert eu.process is not None
    assert eu.process.returncode is None
    await eu.stop()
    assert await verified_log(eu)


@pytest.mark.full
@pytest.mark.parametrize("name", ["us", "eu"])
async def test_a_disk_that_turns_read_only_loses_nothing_and_lets_nothing_through(
    served_border: Border, mounts: Mounts, tmp_path: Path, name: str
) -> None:
    """As Linux does with a file system that has errors. The site may end or refuse; it must not say yes."""
    victim, world = served(served_border, name), served_border.world
    image = mounts.image_over(victim.directory)
    await served_border.start()
    await know_each_other(world)
    source = noise(tmp_path / "source")
    await world.push(f"file:{source}", "eu:app:v1")
    remount(victim.directory, "abort")
    other = noise(tmp_path / "other", seed=2)
    with pytest.raises(CarnetError) as refused:
        await world.push(f"file:{other}", "eu:other:v1", timeout_s=5)
    assert refused.value.exit_status in {1, 5}
    assert refused.value.remedy
    await victim.stop()
    assert not any("Traceback" in line for line in victim.said), "".join(victim.said[-40:])

    image.unmount()
    image.mount()
    await victim.start()
    await know_each_other(world)
    for tag, content in (("app:v1", source), ("other:v1", other)):
        await world.push(f"file:{content}", f"eu:{tag}")
        await world.pull(served_border.eu, tag, f"file:{tmp_path / 'out'}")
        assert (tmp_path / "out").read_bytes() == content.read_bytes()
        (tmp_path / "out").unlink()


async def test_a_site_on_a_read_only_disk_does_not_start_and_says_why_in_a_line(served_border: Border, mounts: Mounts) -> None:
    us = served(served_border, "us")
    mounts.image_over(us.directory)
    remount(us.directory, "ro")
    run = subprocess.run(
        [str(Path(sys.executable).with_name("carnet-gateway")), "serve", str(us.directory)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    remount(us.directory, "rw")

    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert "E-DISK" in run.stderr
    assert "ead-only" in run.stderr
