"""Sites with real certificates, use cases that remember what they were asked, and a real server over them on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from carnet.errors import NotAuthenticated, NotFound
from carnet.flow.client import PeerClient
from carnet.flow.link import Timeouts
from carnet.flow.tls import ClientContext
from carnet.identifiers import SiteName, SpiffeId
from carnet.trust import TrustedState, root_fingerprint
from gateway.http.bounds import Bounds
from gateway.http.server import ServerSettings, serve
from gateway.pki import Authority, encode_chain, encode_key, new_key
from gateway.records import StoredSegment
from gateway.telemetry.metrics import Metrics
from gateway.time_floor import TimeFloor
from tests.carnet import message_samples as samples
from tests.carnet.samples import DOMAIN, EU, US, bundle, site

HOSTS = ("localhost", "127.0.0.1")
QUICK = Timeouts(connect_s=5, read_s=5, send_s=5, retry_s=0)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Credential:
    """A certificate and its key on disk."""

    certificate: Path
    key: Path


@dataclass
class Pki:
    """The issuing CAs of us and eu, and of nobody: a CA that is not in the bundle."""

    directory: Path
    us: Authority = field(default_factory=lambda: Authority.create(US, now()))
    eu: Authority = field(default_factory=lambda: Authority.create(EU, now()))
    nobody: Authority = field(default_factory=lambda: Authority.create(SiteName("nobody"), now()))
    _count: int = 0

    def write(self, authority: Authority, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credential:
        self._count += 1
        found = Credential(self.directory / f"{self._count}.crt", self.directory / f"{self._count}.key")
        found.certificate.write_bytes(encode_chain(certificate, authority.certificate))
        found.key.write_bytes(encode_key(key))
        return found

    def client(
        self, authority: Authority, identity: SpiffeId, *, at: datetime | None = None, life_s: float = 3_600
    ) -> Credential:
        key = new_key()
        certificate = authority.issue_client(identity, key.public_key(), at or now(), timedelta(seconds=life_s))
        return self.write(authority, certificate, key)

    def gateway(self, authority: Authority, identity: SpiffeId) -> Credential:
        key = new_key()
        return self.write(authority, authority.issue_gateway(identity, key.public_key(), HOSTS, now()), key)


def agent_id(site_name: SiteName = US, name: str = "build-1") -> SpiffeId:
    return SpiffeId.make(DOMAIN, site_name, "agent", name)


def gateway_id(site_name: SiteName) -> SpiffeId:
    return SpiffeId.make(DOMAIN, site_name, "gateway", site_name)


class FakeUseCases:
    """Stands for all use cases: remembers calls, returns samples, raises what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.failure: BaseException | None = None
        self.rows_there: list[StoredSegment] = []
        self.segments: dict[str, bytes] = {}
        self.state = "admitted"
        self.change = asyncio.Event()
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.entered = asyncio.Event()

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure

    @property
    def view(self):
        return samples.transfer_view(state=self.state)


class FakeReceive(FakeUseCases):
    async def declare(self, identity, request):
        self._note("declare", identity, request)
        return samples.declare_response()

    async def rows(self, identity, transfer, after):
        self._note("rows", identity, transfer, after)
        return [row for row in self.rows_there if after is None or row.id > after][:512]

    async def put_segment(self, identity, transfer, segment, data, row):
        self.entered.set()
        await self.may_finish.wait()
        self._note("put", identity, transfer, segment, len(data), row)
        new = segment not in self.segments
        self.segments[segment] = bytes(data)
        return new

    async def commit(self, identity, transfer, request):
        self._note("commit", identity, transfer, request)
        return samples.commit_response()


class FakeInbound(FakeUseCases):
    async def declare(self, peer, request):
        self._note("declare", peer, request)
        return samples.forward_response()

    async def put_segment(self, peer, transfer, segment, data):
        self._note("put", peer, transfer, segment, len(data))
        new = segment not in self.segments
        self.segments[segment] = bytes(data)
        return new

    async def commit(self, peer, transfer):
        self._note("commit", peer, transfer)
        return samples.forward_response(missing=())

    async def message(self, peer, transfer, message):
        self._note("message", peer, transfer, message)


class FakeTransfers(FakeUseCases):
    async def show(self, identity, transfer):
        self._note("show", identity, transfer)
        return self.view

    async def list(self, identity, *, states, limit, before):
        self._note("list", identity, states, limit, before)
        return samples.transfer_list()

    async def cancel(self, identity, transfer, reason):
        self._note("cancel", identity, transfer, reason)
        return self.view

    async def retry(self, identity, transfer):
        self._note("retry", identity, transfer)
        return self.view

    async def changed(self, transfer, timeout_s):
        self.calls.append(("changed", transfer))
        self.entered.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.change.wait(), timeout_s)


class FakeNeedsRewrap(FakeUseCases):
    async def sealed(self, identity, transfer):
        self._note("sealed", identity, transfer)
        return samples.sealed_artifact()

    async def take(self, identity, transfer, request):
        self._note("take", identity, transfer, request)


class FakeApprovals(FakeUseCases):
    async def requests(self, identity, transfer):
        self._note("requests", identity, transfer)
        return samples.approval_requests()

    async def take(self, identity, transfer, request):
        self._note("take", identity, transfer, request)
        return self.view


class FakeRecalls(FakeUseCases):
    async def find(self, identity, *, digest, name):
        self._note("find", identity, digest, name)
        return [samples.TRANSFER]

    async def recall(self, identity, transfer, reason):
        self._note("recall", identity, transfer, reason)


class FakeArtifacts(FakeUseCases):
    async def list(self, identity, *, repository, limit, after):
        self._note("list", identity, repository, limit, after)
        return samples.artifact_list()

    async def show(self, identity, repository, tag):
        self._note("show", identity, repository, tag)
        return samples.artifact_view()

    async def release(self, identity, repository, tag):
        self._note("release", identity, repository, tag)
        return samples.artifact_release()

    async def delete(self, identity, repository, tag):
        self._note("delete", identity, repository, tag)

    async def segment(self, identity, segment):
        self._note("segment", identity, segment)
        if segment not in self.segments:
            raise NotFound("E-SEGMENT-UNKNOWN", f"no segment {segment}")
        return self.segments[segment]


class FakeEnrolment(FakeUseCases):
    async def enroll(self, request):
        self._note("enroll", request)
        return samples.enroll_response()

    async def renew(self, identity, request):
        self._note("renew", identity, request)
        return samples.renew_response()


class FakeRevocations:
    """Revokes whom the test names."""

    def __init__(self) -> None:
        self.revoked = set()

    def check_leaf(self, identity, not_before):
        assert not_before < now()
        if identity in self.revoked:
            raise NotAuthenticated("E-REVOKED", f"{identity} was revoked")


class FakeTrust:
    def __init__(self, current) -> None:
        self.current = current
        self.revocations = FakeRevocations()
        self.floor = TimeFloor()

    async def response(self):
        return samples.trust_response()

    def own_revocations(self, after):
        return samples.revocation_response(after)

    def state(self):
        return TrustedState(pinned=root_fingerprint(self.current.roots), bundle=self.current)


@dataclass
class FakeLog:
    directory: Path


@dataclass
class FakeGateway:
    trust: FakeTrust
    log: FakeLog
    receive: FakeReceive = field(default_factory=FakeReceive)
    inbound: FakeInbound = field(default_factory=FakeInbound)
    transfers: FakeTransfers = field(default_factory=FakeTransfers)
    needs_rewrap: FakeNeedsRewrap = field(default_factory=FakeNeedsRewrap)
    approvals: FakeApprovals = field(default_factory=FakeApprovals)
    recalls: FakeRecalls = field(default_factory=FakeRecalls)
    artifacts: FakeArtifacts = field(default_factory=FakeArtifacts)
    enrolment: FakeEnrolment = field(default_factory=FakeEnrolment)


class WallClock:
    """A clock that tests may move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return now() + self.ahead


@dataclass
class World:
    """A running gateway of site us, which knows site eu."""

    pki: Pki
    gateway: FakeGateway
    server: Credential
    clock: WallClock
    port: int
    stop: asyncio.Event
    task: asyncio.Task
    metrics: Metrics

    def gauge(self, name: str) -> float | None:
        """Return a number that the server counts now."""
        return self.metrics.registry.get_sample_value(name)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self, credential: Credential | None, *, timeouts: Timeouts = QUICK, **changes) -> PeerClient:
        certificate, key = (credential.certificate, credential.key) if credential is not None else (None, None)
        context = ClientContext(certificate, key, self.pki.us.pem.decode())
        return PeerClient([self.url], context, **({"gateway": gateway_id(US), "timeouts": timeouts} | changes))

    def agent(self, **changes) -> PeerClient:
        return self.client(self.pki.client(self.pki.us, agent_id()), **changes)

    def peer(self, **changes) -> PeerClient:
        return self.client(self.pki.client(self.pki.eu, gateway_id(EU)), **changes)


@contextlib.asynccontextmanager
async def running(directory: Path, *, bounds: Bounds | None = None) -> AsyncIterator[World]:
    """Yield a world and stop its server at the end."""
    (directory / "log" / "tile" / "0").mkdir(parents=True)
    pki = Pki(directory)
    current = bundle(sites=(site(US, tls_ca=pki.us.pem.decode()), site(EU, tls_ca=pki.eu.pem.decode())))
    gateway = FakeGateway(FakeTrust(current), FakeLog(directory / "log"))
    server = pki.gateway(pki.us, gateway_id(US))
    own_ca = directory / "issuing.crt"
    own_ca.write_bytes(pki.us.pem)
    clock, metrics = WallClock(), Metrics()
    settings = ServerSettings(
        site=US,
        trust_domain=DOMAIN,
        addresses=[("127.0.0.1", 0)],
        certificate=server.certificate,
        key=server.key,
        own_ca=own_ca,
        clock=clock,
        metrics=metrics,
        bounds=bounds or Bounds(drain_s=2, reload_s=0.05, linger_s=0.2),
    )
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(serve(gateway, settings, ready=ready.set_result, stop=stop))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield World(pki, gateway, server, clock, ready.result(), stop, task, metrics)
    finally:
        stop.set()
        await task
