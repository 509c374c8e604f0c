"""A command asks, the process that serves answers, through the catalog alone."""

import pytest

from carnet.errors import InternalError, Unavailable
from gateway import reclaim_request
from gateway.reclaim_request import KIND, ReclaimJobs, ask_to_reclaim
from gateway.reclaiming import Reclaimed
from tests.gateway.samples import open_catalog

FOUND = Reclaimed(3, 300, 1, 10)


class Recorded:
    """A reclaim that does nothing but say what it was asked."""

    def __init__(self, error=None, meanwhile=None):
        self.runs = []
        self.error = error
        self.meanwhile = meanwhile

    async def run(self, *, dry_run):
        self.runs.append(dry_run)
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        return FOUND


@pytest.fixture
def catalog(tmp_path):
    catalog = open_catalog(tmp_path)
    yield catalog
    catalog.close()


def serving(catalog, reclaim):
    """Return a sleep in which the site's worker does what is queued."""

    async def sleep(_seconds):
        job = await catalog.write(lambda t: t.lease_job([KIND]))
        if job is not None:
            await ReclaimJobs(catalog, reclaim).run(job)
            await catalog.write(lambda t: t.finish_job(job))

    return sleep


@pytest.mark.parametrize("dry_run", [False, True])
async def test_the_answer_is_what_the_serving_process_did(catalog, dry_run):
    reclaim = Recorded()

    assert await ask_to_reclaim(catalog, dry_run=dry_run, sleep=serving(catalog, reclaim)) == FOUND
    assert reclaim.runs == [dry_run]
    assert await catalog.read(lambda t: t.tally_jobs()) == []


async def test_a_request_put_during_a_run_is_answered_by_the_next_one(catalog, monkeypatch):
    """The run under way had passed by what the request is about."""
    monkeypatch.setattr(reclaim_request, "_POLLS_MAX", 2)
    second = []

    async def meanwhile():
        if not second:
            second.append(None)
            with pytest.raises(Unavailable):
                await ask_to_reclaim(catalog, dry_run=False, sleep=no_answer)

    async def no_answer(_seconds):
        return None

    reclaim = Recorded(meanwhile=meanwhile)
    await ask_to_reclaim(catalog, dry_run=False, sleep=serving(catalog, reclaim))

    assert [tally.kind for tally in await catalog.read(lambda t: t.tally_jobs())] == [KIND]
    await serving(catalog, reclaim)(0)
    assert reclaim.runs == [False, False]


async def test_a_failure_there_is_the_same_failure_here_and_is_not_tried_again(catalog):
    reclaim = Recorded(error=InternalError("E-DISK", "disk error at shard 0a of the store"))

    with pytest.raises(InternalError) as failure:
        await ask_to_reclaim(catalog, dry_run=False, sleep=serving(catalog, reclaim))

    assert (failure.value.code, failure.value.problem) == ("E-DISK", "disk error at shard 0a of the store")
    assert await catalog.read(lambda t: t.tally_jobs()) == []


async def test_no_answer_is_said_with_what_to_do(catalog, monkeypatch):
    monkeypatch.setattr(reclaim_request, "_POLLS_MAX", 3)

    async def sleep(_seconds):
        return None

    with pytest.raises(Unavailable) as failure:
        await ask_to_reclaim(catalog, dry_run=False, sleep=sleep)

    assert failure.value.code == "E-TIMEOUT"


async def test_however_often_it_is_asked_there_is_one_document(catalog):
    for _ in range(3):
        await ask_to_reclaim(catalog, dry_run=False, sleep=serving(catalog, Recorded()))

    assert len(await catalog.read(lambda t: t.site_documents("reclaim/"))) == 1
