"""Builds a site from its settings and runs it: the one place that names concrete classes.

`serve` owns every task: the log's sequencer, the job worker, maintenance, the watch over peers, the HTTP server. If one of the
first fails for good, the site stops rather than run without it.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from carnet.envelope import Envelope
from carnet.errors import CarnetError
from carnet.flow.client import PeerClient
from carnet.flow.link import Timeouts as LinkTimeouts
from carnet.flow.tls import ClientContext
from carnet.identifiers import SiteName
from carnet.messages import Message
from carnet.policy import Policy
from carnet.release import site_recipient
from carnet.statement import WireModel, complete
from carnet.trust import Site
from gateway.access import Access
from gateway.admit import Admit
from gateway.approvals import Approvals
from gateway.artifacts import Artifacts
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.migrate import check
from gateway.catalog.session import Committed, StateChange
from gateway.changes import Changes
from gateway.clock import SystemClock
from gateway.commit import Commit
from gateway.copying import LogCopies
from gateway.counted_client import CountedPeerClient
from gateway.courier import DirectCourier
from gateway.deliver import Deliver
from gateway.descriptors import connections_that_fit
from gateway.endorsing import require_endorsed
from gateway.enrolment import Enrolment, SiteFacts
from gateway.expire import Expire
from gateway.forward import Forward
from gateway.http.bounds import Bounds as HttpBounds
from gateway.http.server import ServerSettings
from gateway.http.server import serve as serve_http
from gateway.http.watching import watched
from gateway.inbound import Inbound
from gateway.jobs import CatalogJobQueue, Handler, Worker
from gateway.keyring import FileKeyring
from gateway.maintenance import INTERVAL_S, Maintenance
from gateway.needs_rewrap import NeedsRewrap
from gateway.offline import row_seal
from gateway.passages.far_logs import FarLogs
from gateway.passages.opening import Opening
from gateway.passages.passing import Passing
from gateway.passages.taking import Passages
from gateway.peers import Peers
from gateway.pki import Authority
from gateway.policies import PolicyBook
from gateway.policy_record import record_policy
from gateway.ports import Clock
from gateway.recalling import Recalls
from gateway.receive import Receive
from gateway.recheck_round import KIND as RECHECK
from gateway.rechecking import Recheck
from gateway.reclaim_request import KIND, ReclaimJobs
from gateway.reclaiming import Reclaim
from gateway.release import Release
from gateway.remembered import Remembered
from gateway.reserve import DiskReserve, ReservingBlobStore
from gateway.route import Routes
from gateway.services import Bounds, Services
from gateway.settings import GatewaySettings, parse_address
from gateway.sitedir import SitePaths, forget_restored, is_restored, load_authority
from gateway.storage.copies import CopyStore
from gateway.storage.local import LocalBlobStore
from gateway.telemetry import events
from gateway.telemetry.causes import current_cause
from gateway.telemetry.logs import configure, get_logger
from gateway.telemetry.metrics import Metrics
from gateway.tell import Tell
from gateway.terms import DeleteByTerms
from gateway.transfers import Transfers
from gateway.translog.log import TransparencyLog
from gateway.trusting import Trust
from gateway.vitals import Vitals, watch_loop
from gateway.waiting import telling
from gateway.watching import RevocationWatch
from gateway.withdrawing import Withdraw

_JOBS = 16
_FIRST_HEARING_S = 3.0
_ONE_ATTEMPT = LinkTimeouts(connect_s=3.0, read_s=5.0, retry_s=0.0)


@dataclass(frozen=True)
class Gateway:
    """The use cases that the edge calls (`gateway.http.surface.Gateway`)."""

    receive: Receive
    inbound: Inbound
    passages: Passages
    far_logs: FarLogs
    transfers: Transfers
    needs_rewrap: NeedsRewrap
    approvals: Approvals
    recalls: Recalls
    artifacts: Artifacts
    enrolment: Enrolment
    trust: Trust
    log: TransparencyLog


async def serve(
    settings: GatewaySettings, *, ready: Callable[[int], None], stop: asyncio.Event, clock: Clock | None = None
) -> None:
    """Serve the site until `stop` is set; `ready` gets the port once it accepts connections; `clock` is the system's by default.

    Raises:
        CallerError: E-CONFIG, E-POLICY, E-DATABASE for what must be put right before it can run.
        IntegrityError: E-LOG if the log does not verify.
    """
    configure(settings.log_level)
    complete(WireModel, Message)
    paths = SitePaths(settings.data_dir)
    check(paths.catalog)
    async with AsyncExitStack() as stack:
        clock = clock or SystemClock()
        catalog = SqliteCatalog(paths.catalog, clock=clock, seal=row_seal(paths, settings.credentials_dir))
        stack.callback(catalog.close)
        local = LocalBlobStore(paths.store)
        stack.callback(local.close)
        reserve = DiskReserve(paths.root, settings.limits.disk_reserve_bytes)
        store = ReservingBlobStore(local, reserve)
        keyring = FileKeyring.load(paths.keys, credentials=settings.credentials_dir)
        authority = load_authority(paths, settings.credentials_dir)
        log = TransparencyLog(catalog, paths.log, origin=settings.log_origin, key=keyring.signing)
        await log.start()
        trust = Trust(catalog, log, clock, settings.site)
        await trust.refresh()
        remembered = Remembered(settings.site, log, keyring.signing.public)
        metrics = Metrics()
        peers = Peers(trust, settings.site, clock, lambda site: _peer_client(settings, paths, site, metrics), remembered)
        await _require_not_behind(peers, remembered, trust, settings, paths)
        services = Services(
            site=settings.site,
            trust_domain=settings.trust_domain,
            catalog=catalog,
            store=store,
            log=log,
            keyring=keyring,
            clock=clock,
            trust=trust,
            policies=PolicyBook(paths.policy),
            access=Access(lambda: trust.floor.judged(clock.now())),
            peer=peers.client,
            courier=DirectCourier(peers.client, store),
            bounds=_bounds(settings),
            copies=settings.copies,
            reserve=reserve,
        )
        services = replace(services, courier=Routes(services))
        changes = Changes()
        gateway = _gateway(services, changes, _enrolment(services, settings, authority), log)
        worker = _worker(catalog, services, _all_handlers(services, gateway.inbound, local), settings, metrics)
        await stack.enter_async_context(_watched(settings, paths, services, metrics))
        upkeep = Maintenance(settings, paths, authority, keyring, catalog, log, trust, clock)
        stack.callback(catalog.subscribe(_listener(worker, changes)))
        await record_policy(services)
        async with asyncio.TaskGroup() as group:
            sequencer = group.create_task(log.run())
            working = group.create_task(worker.run())
            watch = RevocationWatch(trust, peers.on_our_lanes, peers.client)
            # Before it is said that we serve: SIGHUP ends a process that does not listen for it.
            asked = _hangups()
            keeping = group.create_task(_keep(upkeep, services, Expire(services), watch.heard, asked))
            watching = group.create_task(peers.run())
            following = group.create_task(watch.run())
            try:
                await serve_http(gateway, _server_settings(settings, paths, clock, metrics), ready=ready, stop=stop)
            finally:
                worker.stop()
                await asyncio.wait([working])
                if not sequencer.done():
                    await _publish_the_rest(log, settings.timeouts.drain_s)
                await _end(keeping, watching, following, sequencer)


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Return when the tasks have ended; cancels again each second, for a library may swallow one cancellation."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=1.0)


async def _publish_the_rest(log: TransparencyLog, seconds: float) -> None:
    """Wait until what the last requests logged is published; the next start would do it, but perhaps days later."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await log.settled()


def _enrolment(services: Services, settings: GatewaySettings, authority: Authority) -> Enrolment:
    return Enrolment(
        catalog=services.catalog,
        log=services.log,
        keyring=services.keyring,
        authority=authority,
        trust=services.trust,
        facts=SiteFacts(settings.trust_domain, settings.site, settings.operator),
        clock=services.clock,
    )


def _gateway(services: Services, changes: Changes, enrolment: Enrolment, log: TransparencyLog) -> Gateway:
    inbound = Inbound(services)
    transfers = Transfers(services, changes)
    return Gateway(
        receive=Receive(services, Commit(services)),
        inbound=inbound,
        passages=Passages(services, inbound),
        far_logs=FarLogs(services),
        transfers=transfers,
        needs_rewrap=NeedsRewrap(services),
        approvals=Approvals(services, transfers),
        recalls=Recalls(services),
        artifacts=Artifacts(services),
        enrolment=enrolment,
        trust=services.trust,
        log=log,
    )


async def _require_not_behind(
    peers: Peers, remembered: Remembered, trust: Trust, settings: GatewaySettings, paths: SitePaths
) -> None:
    """Let nothing be signed by a site that was set back; see `gateway.remembered`.

    Raises:
        IntegrityError: E-LOG. Unavailable: E-UNREACHABLE for a restored site whose peers cannot be asked.
    """

    def client(site: SiteName) -> PeerClient:
        # The bundle may have expired while the site was down: who is asked for a signed head need not be trusted any more.
        bundle = trust.state().current
        return _peer_client(settings, paths, bundle.site(site), Metrics(), timeouts=_ONE_ATTEMPT)

    was_restored = is_restored(paths)
    await remembered.ask_all(peers.on_our_lanes(), client, insist=was_restored)
    if was_restored:
        forget_restored(paths)


def _bounds(settings: GatewaySettings) -> Bounds:
    limits = settings.limits
    return Bounds(
        open_transfers_max=limits.open_transfers_max,
        peer_open_transfers_max=limits.peer_open_transfers_max,
        transfer_hours=limits.transfer_hours,
        hold_hours=limits.hold_hours,
        recheck_hours=limits.recheck_hours,
        uncommitted_bytes_max=limits.uncommitted_bytes_max,
        unfinished_bytes_max=limits.unfinished_bytes_max,
        pinned_bytes_max=limits.pinned_bytes_max,
        relaying=settings.relaying,
        relay_transfers_max=limits.relay_transfers_max,
        relay_bytes_max=limits.relay_bytes_max,
        relay_s=settings.timeouts.relay_s,
        route_rest_s=settings.timeouts.route_rest_s,
        pull_grace_hours=limits.pull_grace_hours,
    )


def _handlers(services: Services, inbound: Inbound) -> dict[str, Handler]:
    """Name the handler of every kind of job."""
    needs_rewrap = NeedsRewrap(services)
    passing, opening = Passing(services), Opening(services, inbound)
    admit, forward, release, deliver, tell = (
        Admit(services),
        Forward(services),
        Release(services, needs_rewrap),
        Deliver(services),
        Tell(services),
    )
    recalls, withdraw = Recalls(services), Withdraw(services)
    return {
        "admit": telling(services, admit.run),
        "offer": admit.offer,
        "forward": forward.run,
        "release": release.decide,
        "send-key": release.send_key,
        "rewrap": needs_rewrap.run,
        "send-recall": recalls.send,
        "withdraw": withdraw.run,
        "tell-deleted": withdraw.tell,
        "deliver": telling(services, deliver.run),
        "tell-delivered": tell.delivered,
        "tell-decision": tell.decision,
        "review": Expire(services).review,
        RECHECK: Recheck(services).run,
        "copy-log": LogCopies(services, CopyStore().put).run,
        "delete-after": DeleteByTerms(services).run,
        "pass-on": passing.on,
        "pass-back": passing.back,
        "open-letters": opening.run,
    }


def _all_handlers(services: Services, inbound: Inbound, store: LocalBlobStore) -> dict[str, Handler]:
    """Name those, and the one that tidies the store itself: it has to be the object through which segments are put."""
    reclaim = Reclaim(services.catalog, store, services.guard)
    return {**_handlers(services, inbound), KIND: ReclaimJobs(services.catalog, reclaim).run}


def _listener(worker: Worker, changes: Changes) -> Callable[[Committed], None]:
    def hear(committed: Committed) -> None:
        worker.hear(committed)
        changes.tell(committed.transfers)
        for change in committed.changes:
            _log_change(change)

    return hear


def _log_change(change: StateChange) -> None:
    """Tell the log that a state changed: one search for a transfer's id, at all its sites, tells its story."""
    get_logger().info(
        events.TRANSFER_CHANGED if change.destination is None else events.DELIVERY_CHANGED,
        transfer=change.transfer,
        before=change.before,
        after=change.after,
        peer=change.peer,
        request=change.cause,
    )


async def _keep(upkeep: Maintenance, services: Services, expire: Expire, heard: asyncio.Event, asked: asyncio.Event) -> None:
    """Run every kind of upkeep at intervals, and at once when `asked` (SIGHUP); what fails is logged and tried again.

    The first round waits a moment for a peer: what it signs by a wrong clock would bind this site until that time comes.
    """
    with suppress(TimeoutError):
        await asyncio.wait_for(heard.wait(), _FIRST_HEARING_S)
    recheck = Recheck(services)
    while True:
        asked.clear()
        for work in (upkeep.run, expire.run, partial(_follow_policy, services), recheck.look):
            try:
                await work()
            except (CarnetError, OSError) as error:
                get_logger().warning(events.UPKEEP_FAILED, error=str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), INTERVAL_S)


async def _follow_policy(services: Services) -> None:
    """Take the policy files that changed; those that are not sound change nothing."""
    try:
        await asyncio.to_thread(services.policies.reload, _endorsed(services))
        if await record_policy(services):
            get_logger().info(events.POLICY_LOADED, policy=services.policies.digest)
    except (CarnetError, OSError) as error:
        get_logger().error(events.POLICY_REFUSED, error=str(error))


def _endorsed(services: Services) -> Callable[[Policy, Envelope | None], None]:
    """Return what refuses a policy that its owners did not sign, by the bundle and the revocations of now."""
    bundle = services.trust.current()
    if bundle is None:
        return lambda _policy, _signed: None
    revoked = services.trust.revocations.state.revoked_keys(bundle)
    return lambda policy, signed: require_endorsed(policy, signed, bundle, revoked)


def _hangups() -> asyncio.Event:
    """Return the event that SIGHUP sets; outside the main thread no signal arrives, and it is never set."""
    asked = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    return asked


@asynccontextmanager
async def _watched(settings: GatewaySettings, paths: SitePaths, services: Services, metrics: Metrics) -> AsyncIterator[None]:
    """Show the site to its operators for as long as the context lasts, if the settings say where."""
    address = settings.telemetry.listen
    reserve_bytes = settings.limits.disk_reserve_bytes
    vitals = Vitals(services, metrics, certificate=paths.tls_certificate, log=paths.log, reserve_bytes=reserve_bytes)
    async with watched(None if address is None else parse_address(address), vitals, services.trust.state):
        measuring = asyncio.create_task(watch_loop(metrics))
        try:
            yield
        finally:
            measuring.cancel()


def _worker(
    catalog: SqliteCatalog, services: Services, handlers: dict[str, Handler], settings: GatewaySettings, metrics: Metrics
) -> Worker:
    return Worker(
        CatalogJobQueue(catalog),
        handlers,
        clock=services.clock,
        concurrency=_JOBS,
        drain_s=settings.timeouts.drain_s,
        failed=metrics.job_failed,
    )


def _server_settings(settings: GatewaySettings, paths: SitePaths, clock: Clock, metrics: Metrics) -> ServerSettings:
    timeouts, limits = settings.timeouts, settings.limits
    connections_max = connections_that_fit(limits.connections_max, limits.handshakes_max)
    if connections_max < limits.connections_max:
        get_logger().warning(events.CONNECTIONS_LIMITED, wanted=limits.connections_max, taken=connections_max)
    return ServerSettings(
        site=settings.site,
        trust_domain=settings.trust_domain,
        addresses=[parse_address(address) for address in settings.listen],
        certificate=paths.tls_certificate,
        key=paths.tls_key,
        own_ca=paths.authority_certificate,
        clock=clock,
        metrics=metrics,
        bounds=HttpBounds(
            handshake_s=timeouts.handshake_s,
            header_s=timeouts.header_s,
            idle_s=timeouts.idle_s,
            body_s=timeouts.body_s,
            body_bytes_per_s_min=timeouts.body_bytes_per_s_min,
            drain_s=timeouts.drain_s,
            connections_max=connections_max,
            handshakes_max=limits.handshakes_max,
            connections_per_identity_max=limits.connections_per_identity_max,
            requests_per_s_max=limits.requests_per_s_max,
            bytes_in_flight_max=limits.bytes_in_flight_max,
            bytes_in_flight_per_identity_max=limits.bytes_in_flight_per_identity_max,
        ),
    )


def _peer_client(
    settings: GatewaySettings, paths: SitePaths, site: Site, metrics: Metrics, timeouts: LinkTimeouts | None = None
) -> PeerClient:
    context = ClientContext(paths.tls_certificate, paths.tls_key, site.tls_ca)
    gateway = site_recipient(settings.trust_domain, site.name)
    return CountedPeerClient(
        list(site.urls),
        context,
        gateway=gateway,
        timeouts=timeouts,
        request_id=current_cause,
        sent=lambda size: metrics.sent(site.name, size),
    )
