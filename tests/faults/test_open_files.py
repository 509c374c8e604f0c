"""A gateway without one open file left: it stays, tells its callers to come back, and goes on when there are some again."""

import contextlib
import os
import resource
from pathlib import Path

import pytest

from carnet.errors import CarnetError
from tests.promises.border import Border, verified_log
from tests.promises.kills import noise, served


@pytest.mark.parametrize("spare", [pytest.param(0, marks=pytest.mark.full), pytest.param(1, marks=pytest.mark.full), 3])
async def test_a_gateway_out_of_open_files_goes_on_and_loses_nothing(served_border: Border, tmp_path: Path, spare: int) -> None:
    border = served_border
    await border.start()
    await border.world.push(f"file:{noise(tmp_path / 'first')}", "eu:app:v0")
    process = served(border, "us").process
    assert process is not None
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    source = noise(tmp_path / "second", seed=2)

    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{process.pid}/fd")) + spare, limits[1]))
    with contextlib.suppress(CarnetError):
        await border.world.push(f"file:{source}", "eu:app:v1", timeout_s=8)
    assert process.returncode is None, "".join(served(border, "us").said[-20:])
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
    result = await border.world.push(f"file:{source}", "eu:app:v1")

    assert process.returncode is None
    assert result.view.deliveries[0].state == "delivered"
    await border.us.stop()
    await border.eu.stop()
    assert await verified_log(border.us)
    assert (await verified_log(border.eu))["artifact-visible"] in {2, 3}, "the second may have arrived at once, its answer lost"
