"""The server: listens, serves the routes over TLS, follows renewals, and drains when told to stop.

`serve` owns everything it starts: when it returns, no task, socket or request of it is left.

Rules:      1. `ready` is called once all addresses accept  2. on `stop` nothing new is accepted, what runs may finish within
            `drain_s`, then it is cut
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import SiteName
from carnet.trust import Site
from gateway.http.admission import Admission, Throttle
from gateway.http.bodies import SegmentBuffers
from gateway.http.bounds import Bounds
from gateway.http.connections import ConnectionServer
from gateway.http.context import ServerContext
from gateway.http.doorkeeper import Doorkeeper
from gateway.http.edge import Edge
from gateway.http.exchange import Context
from gateway.http.identity import Authenticator
from gateway.http.surface import Gateway, Trust
from gateway.ports import Clock
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger
from gateway.telemetry.metrics import Metrics

_CLOSE_S: Final = 0.5
"""Time for the last answers to leave their buffers once their handlers have returned."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where and as whom the server listens."""

    site: SiteName
    trust_domain: str
    addresses: Sequence[tuple[str, int]]
    """Host and port; port 0 is any free one, and then the same for all addresses that ask for 0."""
    certificate: Path
    """PEM: the leaf, then its issuing CA."""
    key: Path
    own_ca: Path
    """PEM of the site's issuing CA."""
    clock: Clock
    bounds: Bounds = field(default_factory=Bounds)
    metrics: Metrics = field(default_factory=Metrics)


async def serve(gateway: Gateway, settings: ServerSettings, *, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; `ready` gets the port of the first address.

    Raises:
        CallerError: E-CONFIG if certificate, key or CA does not load, or an address cannot be listened on.
    """
    own_ca = _read_ca(settings.own_ca)
    tls = ServerContext(
        certificate=settings.certificate,
        key=settings.key,
        own_ca=own_ca,
        peer_cas=lambda: _peer_cas(gateway.trust, settings.site),
    )
    stopping = asyncio.Event()
    large = asyncio.Semaphore(settings.bounds.large_bodies_max)
    admission = Admission(settings.bounds)
    context = Context(gateway, settings.bounds, admission, SegmentBuffers(admission), settings.metrics, stopping, large)
    authenticator = Authenticator(
        site=settings.site,
        trust_domain=settings.trust_domain,
        own_ca=own_ca,
        peer_ca=lambda site: _peer_ca(gateway.trust, site),
        check_leaf=gateway.trust.revocations.check_leaf,
    )
    throttle = Throttle(settings.bounds.requests_per_s_max, asyncio.get_running_loop().time)
    # Certificates are judged at the later of clock and floor: a clock set back brings no expired one back.
    edge = Edge(context, authenticator, throttle, lambda: gateway.trust.floor.judged(settings.clock.now()))
    connections = ConnectionServer(edge.handle, settings.bounds)
    settings.metrics.connections.set_function(lambda: connections.open_connections)
    settings.metrics.bytes_in_flight.set_function(lambda: admission.in_flight)
    doorkeeper = Doorkeeper(connections, tls.context, settings.bounds, close_s=_CLOSE_S)
    try:
        await _listen(doorkeeper, settings)
        ready(doorkeeper.addresses[0][1])
        get_logger().info(events.SERVER_LISTENED, addresses=doorkeeper.addresses)

        def look() -> None:
            _follow_own_ca(settings.own_ca, tls, authenticator)
            tls.refresh()
            connections.cut_unless(edge.is_admitted)

        await _follow(look, settings.bounds.reload_s, stop)
    finally:
        stopping.set()
        await _drain(doorkeeper, connections, edge, settings.bounds.drain_s)


async def _listen(doorkeeper: Doorkeeper, settings: ServerSettings) -> None:
    """Listen on each address."""
    port_for_any = 0
    for host, port in settings.addresses:
        try:
            await doorkeeper.listen(host, port or port_for_any)
        except OSError as error:
            raise CallerError("E-CONFIG", f"cannot listen on {host}:{port}: {error.strerror or type(error).__name__}") from None
        if not port:
            port_for_any = doorkeeper.addresses[-1][1]


async def _follow(look: Callable[[], None], reload_s: float, stop: asyncio.Event) -> None:
    """Look every `reload_s` at what may have changed, until `stop` is set."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(reload_s):
                await stop.wait()
        except TimeoutError:
            look()


async def _drain(doorkeeper: Doorkeeper, connections: ConnectionServer, edge: Edge, drain_s: float) -> None:
    """Close the listeners, wait for running requests, then close every connection."""
    started = asyncio.get_running_loop().time()
    await doorkeeper.end()
    try:
        async with asyncio.timeout(drain_s):
            await edge.drained()
    except TimeoutError:
        pass
    cut = edge.in_flight
    # Only now: aiohttp stops reading from connections that are told to close, also in the middle of a body.
    connections.pre_shutdown()
    await connections.end(_CLOSE_S)
    get_logger().info(events.SERVER_DRAINED, cut=cut, elapsed_ms=round((asyncio.get_running_loop().time() - started) * 1_000))


def _read_ca(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError("E-CONFIG", f"the issuing CA {path} does not load: {type(error).__name__}") from None


def _follow_own_ca(path: Path, tls: ServerContext, authenticator: Authenticator) -> None:
    try:
        own_ca = _read_ca(path)
    except CallerError as error:
        get_logger().warning(events.ANCHOR_REFUSED, error=str(error))
        return
    tls.add_own(own_ca)
    authenticator.follow(own_ca)


def _peer_ca(trust: Trust, site: SiteName) -> str | None:
    return next((known.tls_ca for known in _sites(trust) if known.name == site), None)


def _peer_cas(trust: Trust, own: SiteName) -> list[str]:
    return [known.tls_ca for known in _sites(trust) if known.name != own]


def _sites(trust: Trust) -> Sequence[Site]:
    """Return the sites of the trust bundle; none before the first import."""
    try:
        bundle = trust.state().bundle
    except IntegrityError:
        return ()
    return () if bundle is None else bundle.sites
