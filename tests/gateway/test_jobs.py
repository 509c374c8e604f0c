import asyncio
import contextlib

import pytest

from carnet.errors import CallerError, Unavailable
from gateway.clock import SystemClock
from gateway.jobs import CatalogJobQueue, Worker
from gateway.ports import Awaiting
from tests.gateway.samples import Failpoint, Killed, open_catalog


@pytest.fixture
def catalog(tmp_path):
    catalog = open_catalog(tmp_path, clock=SystemClock())
    yield catalog
    catalog.close()


@contextlib.asynccontextmanager
async def working(catalog, handlers, **settings):
    worker = Worker(CatalogJobQueue(catalog), handlers, clock=SystemClock(), **settings)
    unsubscribe = catalog.subscribe(worker.hear)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, 60)
        unsubscribe()


async def queue(catalog, key, kind="deliver", delay_s=0.0):
    await catalog.write(lambda t: t.queue_job(kind, key, delay_s=delay_s))


async def jobs_left(catalog):
    rows = await catalog.read(lambda t: t._connection.execute("SELECT key, leased, attempts, error FROM jobs").fetchall())
    return {row["key"]: (bool(row["leased"]), row["attempts"], row["error"]) for row in rows}


class Recorder:
    """A handler that notes what it ran and sets `done` after `count` runs."""

    def __init__(self, count=1, failures=()):
        self.keys = []
        self.started = asyncio.Event()
        self.done = asyncio.Event()
        self._count = count
        self._failures = list(failures)

    async def __call__(self, job):
        self.keys.append(job.key)
        self.started.set()
        if len(self.keys) >= self._count:
            self.done.set()
        if self._failures:
            raise self._failures.pop(0)


async def test_a_queued_job_runs_and_is_forgotten(catalog):
    handler = Recorder()
    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(handler.done.wait(), 60)

    assert handler.keys == ["x"]
    assert await jobs_left(catalog) == {}


async def test_a_job_that_becomes_due_later_runs_then(catalog):
    handler = Recorder()
    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x", delay_s=0.2)
        assert not handler.done.is_set()
        await asyncio.wait_for(handler.done.wait(), 60)


async def test_a_job_that_awaits_an_answer_runs_again_as_soon_as_it_is_queued(catalog):
    handler = Recorder(count=2, failures=[Awaiting("the answer of eu", 3600)])
    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(handler.started.wait(), 60)
        assert not handler.done.is_set()
        await queue(catalog, "x")
        await asyncio.wait_for(handler.done.wait(), 60)

    assert await jobs_left(catalog) == {}


async def test_each_kind_has_its_handler_and_other_kinds_wait(catalog):
    deliver, inspect = Recorder(), Recorder()
    await queue(catalog, "later", kind="unknown")
    async with working(catalog, {"deliver": deliver, "inspect": inspect}):
        await queue(catalog, "d")
        await queue(catalog, "i", kind="inspect")
        await asyncio.wait_for(deliver.done.wait(), 60)
        await asyncio.wait_for(inspect.done.wait(), 60)

    assert (deliver.keys, inspect.keys) == (["d"], ["i"])
    assert set(await jobs_left(catalog)) == {"later"}


async def test_no_more_run_at_a_time_than_allowed(catalog):
    running, most = 0, 0
    full, done = asyncio.Event(), asyncio.Event()

    async def handler(job):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.01)
        running -= 1
        if job.key == "11":
            done.set()

    for number in range(12):
        await queue(catalog, str(number))
    async with working(catalog, {"deliver": handler}, concurrency=3):
        await asyncio.wait_for(done.wait(), 60)

    assert most == 3


async def test_a_temporary_condition_delays_the_job_by_what_it_says(catalog):
    handler = Recorder(failures=[Unavailable("E-UNREACHABLE", "no route to eu", retry_after_s=1)])
    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(handler.done.wait(), 60)

    assert await jobs_left(catalog) == {"x": (False, 1, "no route to eu [E-UNREACHABLE]")}


@pytest.mark.parametrize(
    ("failure", "text"), [(CallerError("E-CONFIG", "no lane"), "no lane [E-CONFIG]"), (RuntimeError("secret"), "RuntimeError")]
)
async def test_any_other_failure_is_kept_as_text_and_tried_again(catalog, failure, text):
    handler = Recorder(failures=[failure])
    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(handler.done.wait(), 60)

    assert await jobs_left(catalog) == {"x": (False, 1, text)}


async def test_a_failed_job_that_is_queued_again_runs_at_once(catalog, monkeypatch):
    for wait in ("BACKOFF_ERROR_S", "BACKOFF_MAX_S"):
        monkeypatch.setattr(f"gateway.jobs.{wait}", 3_600.0)
    handler = Recorder(count=2, failures=[CallerError("E-CONFIG", "no lane")])
    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(handler.started.wait(), 60)
        await queue(catalog, "x")
        await asyncio.wait_for(handler.done.wait(), 60)

    assert await jobs_left(catalog) == {}


async def test_a_catalog_that_is_busy_for_a_moment_does_not_end_the_worker(catalog):
    handler = Recorder()

    class Busy(CatalogJobQueue):
        failures = 2

        async def lease(self, kinds):
            if self.failures:
                self.failures -= 1
                raise Unavailable("E-BUSY", "another process holds the catalog", retry_after_s=0)
            return await super().lease(kinds)

        async def finish(self, _):
            raise Unavailable("E-DISK-FULL", "no space left for the catalog")

    worker = Worker(Busy(catalog), {"deliver": handler}, clock=SystemClock())
    task = asyncio.create_task(worker.run())
    await queue(catalog, "x")
    await asyncio.wait_for(handler.done.wait(), 60)
    worker.stop()
    await asyncio.wait_for(task, 60)

    assert (await jobs_left(catalog))["x"][0] is True


async def test_backoff_doubles_up_to_a_minute(catalog):
    worker = Worker(CatalogJobQueue(catalog), {}, clock=SystemClock())
    await queue(catalog, "x")
    delays = []
    for _ in range(9):
        job = await catalog.write(lambda t: t.lease_job(["deliver"]))
        delays.append(worker._backoff(job, 1.0))
        await catalog.write(lambda t, job=job: t.retry_job(job, delay_s=0, error=""))

    for attempt, delay in enumerate(delays):
        assert 0.75 * min(60, 2**attempt) <= delay <= min(60, 2**attempt)


async def test_a_stop_lets_running_handlers_finish(catalog):
    started, finished = asyncio.Event(), []

    async def handler(job):
        started.set()
        await asyncio.sleep(0.1)
        finished.append(job.key)

    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(started.wait(), 60)

    assert finished == ["x"]
    assert await jobs_left(catalog) == {}


async def test_what_does_not_finish_in_time_is_given_back(catalog):
    started = asyncio.Event()

    async def handler(job):
        started.set()
        await asyncio.sleep(60)

    async with working(catalog, {"deliver": handler}, drain_s=0.05):
        await queue(catalog, "x")
        await asyncio.wait_for(started.wait(), 60)

    assert await jobs_left(catalog) == {"x": (False, 1, "interrupted")}


async def test_a_cancelled_worker_gives_its_jobs_back_at_once(catalog):
    started = asyncio.Event()

    async def handler(job):
        started.set()
        await asyncio.sleep(60)

    worker = Worker(CatalogJobQueue(catalog), {"deliver": handler}, clock=SystemClock())
    task = asyncio.create_task(worker.run())
    await queue(catalog, "x")
    await asyncio.wait_for(started.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)

    assert await jobs_left(catalog) == {"x": (False, 1, "interrupted")}


async def test_a_handler_whose_lease_is_lost_is_cancelled(catalog):
    cancelled = asyncio.Event()

    async def handler(job):
        await catalog.write(lambda t: t._connection.execute("UPDATE jobs SET fence = fence + 1"))
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with working(catalog, {"deliver": handler}, renew_s=0.02):
        await queue(catalog, "x")
        await asyncio.wait_for(cancelled.wait(), 60)

    assert (await jobs_left(catalog))["x"][0] is True


async def test_a_lease_that_a_clock_jump_ended_never_has_two_handlers_at_work(catalog):
    """The handler that lost its lease ends before the one that has it begins."""
    running, seen, again = 0, [], asyncio.Event()

    async def handler(job):
        nonlocal running
        running += 1
        seen.append(running)
        try:
            if len(seen) > 1:
                again.set()
                return
            await catalog.write(lambda t: (t.queue_job("deliver", "x"), t._connection.execute("UPDATE jobs SET due_at = 0")))
            await asyncio.sleep(60)
        finally:
            running -= 1

    async with working(catalog, {"deliver": handler}):
        await queue(catalog, "x")
        await asyncio.wait_for(again.wait(), 60)

    assert set(seen) == {1}


async def test_a_job_whose_process_was_killed_runs_again_at_the_next_start(tmp_path):
    failpoint = Failpoint()
    catalog = open_catalog(tmp_path, clock=SystemClock(), step=failpoint)
    await queue(catalog, "x")
    await catalog.write(lambda t: t.lease_job(["deliver"]))
    failpoint.number = len(failpoint.seen)
    with pytest.raises(Killed):
        await catalog.write(lambda t: t.queue_job("deliver", "y"))
    catalog.close()

    catalog = open_catalog(tmp_path, clock=SystemClock())
    handler = Recorder()
    async with working(catalog, {"deliver": handler}):
        await asyncio.wait_for(handler.done.wait(), 60)
    assert handler.keys == ["x"]
    catalog.close()
