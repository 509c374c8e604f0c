"""P4 for a recall: killed at any step, at either side, it goes on; what it deletes is gone, and said to be gone once only."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent.recall import recall, wait_acknowledged
from agent.session import open_session
from carnet.errors import CarnetError, Refused
from carnet.identifiers import Repository, Tag
from carnet.messages import TransferView
from tests.crossing.sites import push_in
from tests.promises.border import Border, kept_segments, verified_log
from tests.promises.kills import DEADLINE_S, noise, served

NAME = (Repository("app"), Tag("v1"))
SAMPLE = [
    ("us", "catalog", "committed", 1),
    ("eu", "log", "swapped", 1),
]
"""Failed, and failed but persisted; between the order and the deletion, and between the deletion and the word about it."""
WHOLE = [
    (site, *step)
    for site in ("us", "eu")
    for step in (
        *(("catalog", name, number) for name in ("commit", "committed") for number in range(1, 13)),
        *(("store", name, number) for name in ("directory-sync", "directory-synced") for number in range(1, 5)),
        *(("log", name, number) for name in ("staged", "swapped", "published") for number in (1, 2)),
    )
]


async def recall_once(border: Border) -> TransferView:
    """Recall as the agent of us does, and wait for every site."""
    async with open_session(border.us.agent, connections=1) as session:
        views = await recall(session, NAME, "wrong branch")
        [view] = await wait_acknowledged(session, views, DEADLINE_S)
    return view


async def kill_at(border: Border, tmp_path: Path, name: str, kind: str, step: str, number: int) -> bool:
    """Kill the site at the failpoint during a recall, start it again, and check everything; tell whether the failpoint struck."""
    victim = served(border, name)
    victim.failpoint = (kind, step, number)
    await border.start()
    async with open_session(border.us.agent) as session:
        result = await push_in(session, f"file:{noise(tmp_path / 'source')}", "eu:app:v1")
    assert result.view.deliveries[0].state == "delivered"
    victim.arm()
    assert victim.process is not None
    recalling, dying = asyncio.create_task(recall_once(border)), asyncio.create_task(victim.process.wait())
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait([recalling, dying], return_when=asyncio.FIRST_COMPLETED)
    struck = dying.done()
    for task in (recalling, dying):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError, CarnetError):
        await recalling
    await (victim.dead() if struck else victim.stop())
    victim.failpoint = None
    await victim.start()
    async with asyncio.timeout(DEADLINE_S):
        view = await recall_once(border)
    await check_gone(border, view, tmp_path)
    return struck


async def check_gone(border: Border, view: TransferView, tmp_path: Path) -> None:
    """Nothing is left at either site, nobody pulls it, and each step is in a log that verifies, once."""
    assert (view.state, view.deliveries[0].state) == ("recalled", "recalled")
    with pytest.raises(Refused, match="E-RECALLED"):
        await border.world.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")
    await border.us.stop()
    await border.eu.stop()
    for site in (border.us, border.eu):
        assert site.stored() == []
        assert await kept_segments(site) == set()
    us, eu = await verified_log(border.us), await verified_log(border.eu)
    assert (us["transfer-recalled"], us["receipt-deleted"]) == (1, 1)
    assert (eu["recall-received"], eu["receipt-deleted"]) == (1, 1)


@pytest.mark.parametrize(("site", "kind", "step", "number"), SAMPLE)
async def test_killed_during_a_recall_a_site_goes_on_with_it(
    served_border: Border, tmp_path: Path, site: str, kind: str, step: str, number: int
) -> None:
    assert await kill_at(served_border, tmp_path, site, kind, step, number)


@pytest.mark.full
@pytest.mark.parametrize(("site", "kind", "step", "number"), WHOLE)
async def test_killed_at_any_durable_step_of_a_recall_a_site_goes_on_with_it(
    served_border: Border, tmp_path: Path, site: str, kind: str, step: str, number: int
) -> None:
    await kill_at(
        served_border, tmp_path, site, kind, step, number
    )  # a late number may not be reached: then it is a plain recall
