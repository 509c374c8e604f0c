"""The jobs: background work that survives any crash, leased from the catalog and run at least once.

A use case queues a job in the transaction that makes it necessary. The worker leases what is due, keeps the lease alive while the
handler runs, and gives it back with a delay when the handler fails. It knows no handler; assembly names them by kind.

Rules:      1. handlers are idempotent: a job may run again after it did its work  2. a lost lease cancels the handler
            3. a job is never dropped for failing: its delay grows to a bound, its error is kept for people
            4. a stop lets running handlers finish within a deadline, then gives their jobs back
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from carnet.errors import CarnetError, Unavailable
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.session import Committed
from gateway.catalog.work import LEASE
from gateway.ports import Awaiting, Clock, JobQueue
from gateway.records import JobRecord
from gateway.telemetry import events
from gateway.telemetry.causes import caused_by, new_cause

Handler = Callable[[JobRecord], Awaitable[None]]

BACKOFF_UNAVAILABLE_S: Final = 1.0
"""First delay after a temporary condition; it doubles."""
BACKOFF_ERROR_S: Final = 5.0
"""First delay after any other error; it doubles."""
BACKOFF_MAX_S: Final = 60.0
_DOUBLINGS_MAX = 10
_POLL_S = 5.0
"""Longest sleep of an idle worker: leases of other processes run out without a commit here."""
_TICK_S = 0.01
"""Shortest sleep: clocks of catalog and worker differ by a hair."""
_RENEWALS_A_LEASE = 3

log = structlog.get_logger(__name__)


class CatalogJobQueue:
    """Implements `JobQueue` on the catalog's jobs table."""

    def __init__(self, catalog: SqliteCatalog) -> None:
        """Take the catalog."""
        self._catalog = catalog

    async def lease(self, kinds: Sequence[str]) -> JobRecord | None:
        """Lease the job that has been due longest, or None; see `JobQueue.lease`."""
        return await self._catalog.write(lambda catalog: catalog.lease_job(kinds))

    async def renew(self, job: JobRecord) -> bool:
        """Prolong the lease; see `JobQueue.renew`."""
        return await self._catalog.write(lambda catalog: catalog.renew_job(job))

    async def finish(self, job: JobRecord) -> None:
        """Mark the job done; see `JobQueue.finish`."""
        await self._catalog.write(lambda catalog: catalog.finish_job(job))

    async def retry(self, job: JobRecord, *, delay_s: float, error: str) -> None:
        """Give the job back; see `JobQueue.retry`."""
        await self._catalog.write(lambda catalog: catalog.retry_job(job, delay_s=delay_s, error=error))

    async def recover(self) -> int:
        """End the leases of a process that is gone; see `JobQueue.recover`."""
        return await self._catalog.write(lambda catalog: catalog.recover_jobs())

    async def next_due(self, kinds: Sequence[str]) -> datetime | None:
        """Return when the next job can be leased; see `JobQueue.next_due`."""
        return await self._catalog.read(lambda catalog: catalog.next_job_due(kinds))


class Worker:
    """Runs the jobs whose kinds have handlers, `concurrency` at a time. `run` in a task; `stop` ends it from another."""

    def __init__(
        self,
        queue: JobQueue,
        handlers: Mapping[str, Handler],
        *,
        clock: Clock,
        concurrency: int = 8,
        drain_s: float = 10.0,
        renew_s: float = LEASE.total_seconds() / _RENEWALS_A_LEASE,
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the queue and a handler for each kind; `drain_s` seconds are given to running handlers after `stop`.

        `failed` is told the kind of each job that did not succeed.
        """
        self._queue = queue
        self._handlers = dict(handlers)
        self._kinds = tuple(self._handlers)
        self._clock = clock
        self._drain_s = drain_s
        self._renew_s = renew_s
        self._concurrency = concurrency
        self._failed = failed
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._running: dict[asyncio.Task[None], int] = {}
        """Handlers that run here, with the ids of their jobs."""
        self._jitter = random.Random()  # noqa: S311 - spreads retries, keeps no secret

    def hear(self, committed: Committed) -> None:
        """Wake up if a commit changed the jobs; subscribe this to the catalog."""
        if committed.jobs:
            self._wake.set()

    def stop(self) -> None:
        """Let `run` end: no new job is leased, running ones get `drain_s` seconds."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Run jobs until `stop`. If this is cancelled, handlers are cancelled and their jobs given back at once."""
        await self._queue.recover()
        async with asyncio.TaskGroup() as group:
            while not self._is_stopping:
                self._wake.clear()
                try:
                    if await self._start_one(group):
                        continue
                    delay_s = await self._idle_s()
                except Unavailable as error:
                    log.warning(events.JOB_LEASE_FAILED, error=str(error))
                    delay_s = float(error.retry_after_s)
                await self._sleep(delay_s)
            await self._drain()

    async def _start_one(self, group: asyncio.TaskGroup) -> bool:
        """Lease a job and start its handler; False if none is due, or all hands are busy."""
        job = await self._queue.lease(self._kinds) if len(self._running) < self._concurrency else None
        if job is None:
            return False
        earlier = [task for task, number in self._running.items() if number == job.id]
        task = group.create_task(self._run_job(job, earlier), name=f"job-{job.kind}-{job.id}")
        self._running[task] = job.id
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._wake.set()

    async def _idle_s(self) -> float:
        """Return how long nothing need be looked at, unless a commit says so: until the next job is due, or the poll's turn."""
        due = await self._queue.next_due(self._kinds) if len(self._running) < self._concurrency else None
        return _POLL_S if due is None else min(_POLL_S, max(_TICK_S, (due - self._clock.now()).total_seconds()))

    async def _sleep(self, delay_s: float) -> None:
        """Wait that long, or until a commit changed jobs, a handler ended, or `stop`."""
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _run_job(self, job: JobRecord, earlier: Sequence[asyncio.Task[None]]) -> None:
        """Run one handler under its lease and settle the job; only a lost process or a lost lease leaves it unsettled.

        A clock that jumps ends leases of handlers that still run here, in `earlier`: they end first, so that two never work on
        the same thing.
        """
        for task in earlier:
            task.cancel()
        if earlier:
            await asyncio.wait(earlier)
        keeper = asyncio.create_task(self._keep_lease(job, asyncio.current_task()))
        try:
            with caused_by(new_cause()):
                await self._handlers[job.kind](job)
        except asyncio.CancelledError:
            # Shielded: the job must be given back although this task is ending. After a lost lease it changes nothing.
            await asyncio.shield(self._settle(job, self._queue.retry(job, delay_s=0.0, error="interrupted")))
        except Awaiting as awaited:
            await self._settle(job, self._queue.retry(job, delay_s=awaited.seconds, error=str(awaited)))
        except Unavailable as error:
            await self._give_back(job, max(float(error.retry_after_s), self._backoff(job, BACKOFF_UNAVAILABLE_S)), str(error))
        except CarnetError as error:
            await self._give_back(job, self._backoff(job, BACKOFF_ERROR_S), str(error))
        except Exception as error:  # the worker is the supervisor of its handlers
            log.exception(events.JOB_FAILED, kind=job.kind, key=job.key, attempts=job.attempts)
            await self._give_back(job, self._backoff(job, BACKOFF_ERROR_S), type(error).__name__)
        else:
            await self._settle(job, self._queue.finish(job))
        finally:
            keeper.cancel()

    async def _keep_lease(self, job: JobRecord, runner: "asyncio.Task[None] | None") -> None:
        """Prolong the lease while the handler runs; cancel the handler if another worker has the job."""
        is_ours = True
        while is_ours:
            await asyncio.sleep(self._renew_s)
            is_ours = await self._renewed(job)
        if runner is not None:
            runner.cancel()

    async def _renewed(self, job: JobRecord) -> bool:
        """Renew; a temporary failure counts as renewed, since the lease outlives two of them."""
        try:
            return await self._queue.renew(job)
        except CarnetError as error:
            log.warning(events.JOB_RENEWAL_FAILED, kind=job.kind, key=job.key, error=str(error))
            return True

    async def _give_back(self, job: JobRecord, delay_s: float, error: str) -> None:
        self._failed(job.kind)
        log.info(events.JOB_DELAYED, kind=job.kind, key=job.key, attempts=job.attempts, delay_s=round(delay_s, 1), error=error)
        await self._settle(job, self._queue.retry(job, delay_s=delay_s, error=error))

    async def _settle(self, job: JobRecord, change: Awaitable[None]) -> None:
        """Await what settles the job; if the catalog cannot take it now, the lease runs out and the job runs again."""
        try:
            await change
        except Unavailable as error:
            log.warning(events.JOB_LEASE_FAILED, kind=job.kind, key=job.key, error=str(error))

    def _backoff(self, job: JobRecord, first_s: float) -> float:
        """Return the delay after this attempt: doubled each time up to the bound, less up to a quarter at random."""
        delay = min(BACKOFF_MAX_S, first_s * 2.0 ** min(job.attempts - 1, _DOUBLINGS_MAX))
        return delay * self._jitter.uniform(0.75, 1.0)

    async def _drain(self) -> None:
        """Give running handlers their time, then cancel those that are left; their jobs are given back."""
        if self._running:
            _, left = await asyncio.wait(tuple(self._running), timeout=self._drain_s)
            for task in left:
                task.cancel()
