"""Vitals: one reading of a running site, for whoever watches it: what is where, what waits, what ends, how much room there is.

A reading counts rows, so it is kept for a few seconds and shared by all who ask.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from carnet.timestamps import parse_time
from gateway.copying import copies_due
from gateway.duties import count_duties
from gateway.expiries import expiries
from gateway.ports import Transaction
from gateway.reserve import free_bytes
from gateway.services import Services
from gateway.telemetry.metrics import Metrics

_KEPT_S: Final = 5.0
_LAG_EVERY_S: Final = 1.0


class Vitals:
    """Brings the gauges up to date."""

    def __init__(self, services: Services, metrics: Metrics, *, certificate: Path, log: Path, reserve_bytes: int) -> None:
        """Take the site, its metrics, its certificate's file, its log's directory, and the bytes that its disk keeps free."""
        self._services = services
        self._metrics = metrics
        self._certificate = certificate
        self._log = log
        self._reserve_bytes = reserve_bytes
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def text(self) -> bytes:
        """Return the metrics with gauges that are at most a few seconds old."""
        async with self._reading:
            if self._read_at is None or time.monotonic() - self._read_at >= _KEPT_S:
                await self._read()
                self._read_at = time.monotonic()
            return self._metrics.text()

    async def _read(self) -> None:
        """Steps: (1) rows; (2) log; (3) disk; (4) what ends; (5) the clock."""
        services, metrics = self._services, self._metrics
        now = services.clock.now()
        await services.catalog.read(self._count)  # (1)
        published = services.log.checkpoint()[0].size
        entries = await services.catalog.read(lambda tx: tx.log_size())
        metrics.log_entries.set(entries)  # (2)
        metrics.log_lag.set(max(0, entries - published))
        await asyncio.to_thread(self._ask_disk, now.timestamp())  # (3)
        ends = await asyncio.to_thread(expiries, services.trust, services.site, services.clock, self._certificate)
        metrics.seconds_left.clear()
        for one in ends:  # (4)
            metrics.seconds_left.labels(one.what).set((one.ends - now).total_seconds())
        metrics.revocation_age.clear()
        for site, known in services.trust.revocations.state.sets.items():
            metrics.revocation_age.labels(site).set((now - parse_time(known.content.issued)).total_seconds())
        floor = services.trust.floor.moment
        if floor is not None:
            metrics.clock_ahead.set((now - floor).total_seconds())  # (5)

    def _count(self, tx: Transaction) -> None:
        metrics = self._metrics
        for gauge, counts in ((metrics.transfers, tx.count_transfers()), (metrics.deliveries, tx.count_deliveries())):
            gauge.clear()
            for state, count in counts.items():
                gauge.labels(state).set(count)
        for gauge in (metrics.jobs, metrics.jobs_failing, metrics.job_attempts, metrics.job_lateness):
            gauge.clear()
        for tally in tx.tally_jobs():
            metrics.jobs.labels(tally.kind).set(tally.count)
            metrics.jobs_failing.labels(tally.kind).set(tally.failing)
            metrics.job_attempts.labels(tally.kind).set(tally.attempts_max)
            metrics.job_lateness.labels(tally.kind).set(max(0.0, (tx.now - tally.oldest_due).total_seconds()))

        for state, count in zip(("open", "late"), count_duties(tx), strict=True):
            metrics.duties.labels(state).set(count)
        metrics.copies_due.set(copies_due(tx)[0])

    def _ask_disk(self, now: float) -> None:
        metrics = self._metrics
        metrics.disk_reserve.set(self._reserve_bytes)
        try:
            free = free_bytes(self._log)
            metrics.checkpoint_age.set(max(0.0, now - (self._log / "checkpoint").stat().st_mtime))
        except OSError:
            return  # the site stops by itself when its disk cannot be read
        metrics.disk_free.set(free)
        metrics.disk_stopped.set(int(free < self._reserve_bytes))


async def watch_loop(metrics: Metrics, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Measure how late the event loop runs its timers, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_EVERY_S
        await sleep(_LAG_EVERY_S)
        metrics.lagged(max(0.0, loop.time() - due))
