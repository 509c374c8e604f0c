"""A simulated site: the production use cases over a simulated disk, a catalog in memory, virtual time; it dies and starts again.

`Site.start` is what `gateway.assembly.serve` does, but for the HTTP server: the same order, the same parts.
"""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from carnet.errors import CarnetError
from carnet.release import site_recipient
from gateway import assembly
from gateway.access import Access
from gateway.batching import BatchThread
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.row_seal import RowSeal
from gateway.changes import Changes
from gateway.courier import DirectCourier
from gateway.enrolment import Enrolment, SiteFacts
from gateway.expire import Expire
from gateway.jobs import CatalogJobQueue, Worker
from gateway.keyring import FileKeyring
from gateway.peers import Peers
from gateway.pki import Authority
from gateway.policies import PolicyBook
from gateway.policy_record import record_policy
from gateway.remembered import Remembered
from gateway.revoking import is_set_due, issue_set
from gateway.route import Routes
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.storage.durable import SyncFailure
from gateway.storage.local import LocalBlobStore
from gateway.translog.log import TransparencyLog
from gateway.trusting import Trust
from gateway.watching import RevocationWatch
from tests.simulation.disk import SimulatedDisk
from tests.simulation.loop import Killed, Process, VirtualLoop
from tests.simulation.network import Client, Network

STORE, LOG = Path("/site/store"), Path("/site/log")
_UPKEEP_S = 30.0


@dataclass(frozen=True)
class Prepared:
    """What a site starts its first life with; shared by all seeds, changed by none."""

    settings: GatewaySettings
    keyring: FileKeyring
    authority: Authority
    seal: RowSeal
    policies: dict[str, PolicyBook]
    catalog: bytes
    disk: SimulatedDisk


class Policies:
    """A `PolicyBook` whose policy the scenario changes."""

    def __init__(self, books: dict[str, PolicyBook]) -> None:
        self.books = books
        self.name = "allow"

    @property
    def digest(self) -> Any:
        return self.books[self.name].digest

    @property
    def policy(self) -> Any:
        return self.books[self.name].policy

    @property
    def signatures(self) -> Any:
        return self.books[self.name].signatures


class SiteClock:
    """Virtual time, and how wrong this site's clock is."""

    def __init__(self, start: datetime, loop: VirtualLoop) -> None:
        self.start = start
        self.loop = loop
        self.wrong_s = 0.0

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.loop.time() + self.wrong_s)


class TurnBatches(BatchThread[Any]):
    """The group without a thread: a batch runs when its turn comes on the loop."""

    _is_due = False

    def _start(self) -> None:
        """No thread."""

    def enqueue(self, work: Any) -> "asyncio.Future[object]":
        answer = super().enqueue(work)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(0.001, self._turn)
        return answer

    def _turn(self) -> None:
        self._is_due = False
        batch, _ = self._gather()
        self._answer(batch, self._run_batch(batch))


@dataclass
class Faults:
    """What the disk and the catalog of a site do next; counted in operations."""

    choice: random.Random
    crash_in: int | None = None
    """Operations until the process dies there."""
    sync_fails: float = 0.0
    full: float = 0.0
    commit_fails: float = 0.0


@dataclass
class Site:
    """One site through all its lives."""

    name: str
    prepared: Prepared
    network: Network
    clock: SiteClock
    faults: Faults
    note: Callable[[str], None]
    failed: Callable[[str], None]
    disk: SimulatedDisk = field(init=False)
    catalog_bytes: bytes = field(init=False)
    policies: Policies = field(init=False)
    process: Process = field(init=False)
    gateway: Any = None
    services: Any = None
    lives: int = 0
    starting: "asyncio.Task[None] | None" = None
    _connection: sqlite3.Connection | None = None

    def __post_init__(self) -> None:
        self.disk = self.prepared.disk.copy()
        self.catalog_bytes = self.prepared.catalog
        self.policies = Policies(self.prepared.policies)
        self.process = Process(self.name, alive=False)

    @property
    def is_up(self) -> bool:
        """Whether it takes requests."""
        return self.process.alive and self.gateway is not None

    def start(self) -> None:
        """Begin a new life."""
        self.lives += 1
        self.note(f"start {self.name}")
        self.gateway = self.services = None
        self.process = process = Process(self.name, on_exit=lambda error: self.crash(f"it ended itself: {error}"))
        self.disk.before = lambda operation, path: self._before(process, operation, path)
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.deserialize(self.catalog_bytes)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        self._connection = connection
        self.starting = asyncio.get_running_loop().create_task(self._live(process), context=process.context.copy())

    def crash(self, why: str) -> None:
        """Lose power now: no line of the process runs any more."""
        if not self.process.alive:
            return
        self.note(f"crash {self.name}: {why}")
        self.process.alive = False
        self.network.hosts.pop(self.name, None)
        assert self._connection is not None
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.catalog_bytes = self._connection.serialize()
        self.disk.crash(self.faults.choice)
        self.network.died(self.process)

    def read_log(self, name: str) -> bytes | None:
        """Return a file of the log as the HTTP edge would."""
        try:
            return self.disk.read(LOG / name)
        except FileNotFoundError:
            return None

    def _before(self, process: Process, operation: str, path: Path) -> None:
        process.require_alive()
        self._count(process, f"{operation} {path.parent.name}")
        if operation in {"create", "write"} and self.faults.choice.random() < self.faults.full:
            self.note(f"full {self.name}")
            raise OSError(28, "No space left on device")
        if operation in {"sync", "sync-directory"} and self.faults.choice.random() < self.faults.sync_fails:
            self.note(f"eio {self.name} {operation}")
            raise OSError(5, "Input/output error")

    def _count(self, process: Process, where: str) -> None:
        if self.faults.crash_in is None or self.gateway is None:
            return
        self.faults.crash_in -= 1
        if self.faults.crash_in <= 0:
            self.faults.crash_in = None
            self.crash(f"at {where}")
            process.require_alive()

    def _step(self, process: Process, name: str) -> None:
        """Before and after each commit of the catalog."""
        process.require_alive()
        self._count(process, name)
        if name in {"commit", "committed"} and self.faults.choice.random() < self.faults.commit_fails:
            raise SyncFailure(f"{name}: outcome unknown")

    async def _live(self, process: Process) -> None:
        try:
            await self._serve(process)
        except (Killed, asyncio.CancelledError):
            raise
        except BaseExceptionGroup as failures:
            self.failed(f"{self.name} stopped: {failures.exceptions[0]!r}")
        except Exception as error:  # noqa: BLE001 - whatever ends a site is a finding
            if isinstance(error, CarnetError) and error.code in {"E-DISK-FULL", "E-DISK"}:
                return self.crash(f"could not start: {error.code}")
            self.failed(f"{self.name} stopped: {error!r}")

    def _connect(self, _path: Path, *, writer: bool) -> sqlite3.Connection:  # noqa: ARG002 - readers may write here
        """All connections are one: nothing runs beside anything."""
        assert self._connection is not None
        return self._connection

    async def _serve(self, process: Process) -> None:
        prepared, settings, keyring, clock = self.prepared, self.prepared.settings, self.prepared.keyring, self.clock
        catalog = SqliteCatalog(
            Path("/site/catalog"),
            clock=clock,
            seal=prepared.seal,
            step=lambda name: self._step(process, name),
            open_connection=self._connect,
            batches=TurnBatches,
        )
        store = LocalBlobStore(STORE, disk=self.disk, batches=TurnBatches, writers=1)
        log = TransparencyLog(catalog, LOG, origin=settings.log_origin, key=keyring.signing, disk=self.disk)
        await log.start()
        trust = Trust(catalog, log, clock, settings.site)
        await trust.refresh()
        remembered = Remembered(settings.site, log, keyring.signing.public)
        own = site_recipient(settings.trust_domain, settings.site)

        def client(site: Any) -> Any:
            return Client(self.network, own, self.name, str(site.name))

        peers = Peers(trust, settings.site, clock, client, remembered)
        await remembered.ask_all(peers.on_our_lanes(), lambda name: client(trust.state().current.site(name)), insist=False)
        services = Services(
            site=settings.site,
            trust_domain=settings.trust_domain,
            catalog=catalog,
            store=store,
            log=log,
            keyring=keyring,
            clock=clock,
            trust=trust,
            policies=self.policies,  # type: ignore[arg-type]
            access=Access(lambda: trust.floor.judged(clock.now())),
            peer=peers.client,
            courier=DirectCourier(peers.client, store),
        )
        services = replace(services, courier=Routes(services))
        changes = Changes()
        facts = SiteFacts(settings.trust_domain, settings.site, settings.operator)
        enrolment = Enrolment(
            catalog=catalog, log=log, keyring=keyring, authority=prepared.authority, trust=trust, facts=facts, clock=clock
        )
        gateway = assembly._gateway(services, changes, enrolment, log)
        handlers = assembly._handlers(services, gateway.inbound)
        worker = Worker(CatalogJobQueue(catalog), handlers, clock=clock, concurrency=assembly._JOBS)
        worker._jitter = random.Random(self.faults.choice.random())
        catalog.subscribe(assembly._listener(worker, changes))
        await record_policy(services)
        self.services, self.gateway = services, gateway
        self.network.hosts[self.name] = self  # type: ignore[assignment]
        async with asyncio.TaskGroup() as group:
            group.create_task(log.run())
            group.create_task(worker.run())
            group.create_task(peers.run())
            group.create_task(RevocationWatch(trust, peers.on_our_lanes, peers.client).run())
            group.create_task(self._keep(services, Expire(services)))

    async def _keep(self, services: Services, expire: Expire) -> None:
        """Upkeep as `gateway.maintenance` does it, but for certificates and key files, which have no part here."""
        while True:
            try:
                await services.trust.refresh()
                if is_set_due(services.trust.revocations.own(), self.clock.now()):
                    await services.catalog.write(lambda tx: issue_set(tx, services.keyring.signing, services.site))  # type: ignore[arg-type]
                    await services.trust.refresh_revocations()
                await expire.run()
                await record_policy(services)
            except CarnetError as error:
                self.note(f"upkeep of {self.name}: {error.code}")
            await asyncio.sleep(_UPKEEP_S)
