"""Whole sites in this process, real but for the machine they run on: real TLS, disks, databases, agents.

Two of them, and relays between them where a test asks for some. A template of the sites is made once a session (keys, bundle,
enrolled agents); each test gets a copy of it and runs it.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.enroll import enroll
from agent.pull import Granted
from agent.pull import pull as run_pull
from agent.push import PushOrder, PushResult, Wait
from agent.push import push as run_push
from agent.session import Session, open_session
from agent.settings import AgentSettings
from agent.sinks import open_sink
from agent.sources import open_source
from carnet.envelope import parse_envelope
from carnet.flow.progress import Progress
from carnet.identifiers import AgentName, Digest, LaneName, Repository, SiteName, Tag
from carnet.invite import Invite
from carnet.keys import SigningKey
from carnet.messages import TransferView
from carnet.oci import ArtifactKind
from carnet.trust import HOME_LANE, KemStatement, Roots
from carnet.waybill import Declarations
from gateway.assembly import serve
from gateway.enrolment import InviteOrder, make_invite
from gateway.offline import create_site, open_site
from gateway.ports import Clock
from gateway.proposals import Change, parse_lane, propose, read_card, sign_proposal, unsigned
from gateway.settings import GatewaySettings, Limits, Telemetry, Timeouts, load_settings
from gateway.sitedir import SitePaths
from tests.crossing.ports import free_port

LANE = LaneName("us-eu")
ROOT_KEY = SigningKey(bytes(range(32)))
ROOTS = Roots(keys=(ROOT_KEY.public,), threshold=1).fingerprint
GRANTS = ("push,pull,delete,inspect:*@*",)
POLICIES = {
    "us": """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 1, owner: the tests}
rules:
  - id: home
    at: [receipt, release]
    when: {lane: home}
    effect: allow
    reason: within us
  - id: ordinary
    at: [offer, release]
    when: {lane: us-eu, artifact.classification: [public, internal]}
    effect: allow
    reason: ordinary content may go to eu
  - id: controlled
    at: [offer]
    when: {artifact.classification: export-controlled}
    effect: deny
    reason: controlled content stays
    remedy: use another lane
  - id: asked-to-wait
    at: [offer]
    when: {purpose: wait-at-offer}
    unless: {artifact.classification: export-controlled}
    effect: hold
    reason: somebody has to look first
    remedy: ask the tests
  - id: key-waits
    at: [release]
    when: {purpose: wait-at-release}
    effect: hold
    reason: the key waits for somebody
    remedy: ask the tests
  - id: key-stays
    at: [release]
    when: {purpose: no-key}
    effect: deny
    reason: the key stays here
    remedy: ask the tests
""",
    "eu": """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: eu, version: 1, owner: the tests}
rules:
  - id: welcome
    at: [receipt, release]
    when: {origin.site: [us, eu]}
    effect: allow
    reason: from us or from here
  - id: locked
    at: [receipt]
    when: {purpose: quarantine-me}
    effect: quarantine
    reason: kept locked
    remedy: ask the tests
  - id: unwanted
    at: [receipt]
    when: {purpose: deny-me}
    effect: deny
    reason: not wanted here
    remedy: ask the tests
  - id: unsure
    at: [receipt]
    when: {purpose: hold-me}
    effect: hold
    reason: somebody at eu has to look
    remedy: ask the tests
  - id: not-for-pulling
    at: [release]
    when: {purpose: no-pull, recipient.kind: agent}
    effect: deny
    reason: nobody pulls this
    remedy: ask the tests
""",
}


RELAY_POLICY = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: relay, version: 1, owner: the tests}
rules:
  - id: nothing
    at: [offer, receipt, release]
    when: {purpose: nothing-goes-here}
    effect: deny
    reason: a relay decides about nothing
    remedy: ask the tests
"""
JURISDICTIONS = {"us": "US", "eu": "DE", "sg": "SG", "jp": "JP"}


@dataclass
class LiveSite:
    """A site of one test: its directory, its settings, and whether it runs."""

    name: SiteName
    directory: Path
    agent_dir: Path
    limits: Limits = field(default_factory=Limits)
    telemetry: Telemetry = field(default_factory=Telemetry)
    root_fingerprint: Digest | None = None
    """What the agent's own configuration says about the roots."""
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(drain_s=2.0))
    relaying: bool = True
    clock: Clock | None = None
    """What it takes for the time, from the next start on; the system's if None."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    @property
    def settings(self) -> GatewaySettings:
        """The settings it runs with; a test may change the limits before it starts."""
        changes = {"limits": self.limits, "timeouts": self.timeouts, "relaying": self.relaying}
        changes |= {"telemetry": self.telemetry, "log_level": "error"}
        return load_settings(self.directory).model_copy(update=changes)

    @property
    def agent(self) -> AgentSettings:
        """The settings of the agent enrolled here."""
        return AgentSettings(
            url=self.settings.url,
            site=self.name,
            identity_dir=self.agent_dir / "identity",
            root_fingerprint=self.root_fingerprint,
        )

    @property
    def paths(self) -> SitePaths:
        """Where everything of the site is."""
        return SitePaths(self.directory)

    async def start(self) -> None:
        """Serve until `stop`."""
        self._stop = asyncio.Event()
        listening = asyncio.get_running_loop().create_future()

        def ready(port: int) -> None:
            if not listening.done():
                listening.set_result(port)

        self._task = asyncio.create_task(serve(self.settings, ready=ready, stop=self._stop, clock=self.clock))
        await asyncio.wait([listening, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            ended, self._task = self._task, None
            await ended
            raise AssertionError("the site ended before it served")

    async def stop(self) -> None:
        """Stop as SIGTERM does; does nothing if it does not run."""
        if self._task is not None:
            self._stop.set()
            await self._task
            self._task = None

    def set_policy(self, text: str) -> None:
        """Replace the site's policy; takes effect at the next start."""
        (self.paths.policy / "policy.yaml").write_text(text, encoding="utf-8")

    def stored(self) -> list[Path]:
        """Return the files of the store."""
        return [path for path in self.paths.store.rglob("*") if path.is_file() and path.parent.name != "incoming"]


@dataclass
class World:
    """The sites of one test: both ends, and the relays between them."""

    us: LiveSite
    eu: LiveSite
    root: Path
    relays: dict[str, LiveSite] = field(default_factory=dict)

    @property
    def sites(self) -> list[LiveSite]:
        """All of them; those that are sent to come first."""
        return [self.eu, *self.relays.values(), self.us]

    async def start(self) -> None:
        """Start every site; returns when us can push to eu."""
        for site in self.sites:
            await site.start()
        await know_each_other(self)

    async def stop(self) -> None:
        """Stop every site, the pushing one first."""
        for site in reversed(self.sites):
            await site.stop()

    async def push(self, source: Path | str, target: str, **changes: Any) -> PushResult:
        """Push as the agent of us; `target` is `[eu:]repository:tag`. Waits for delivery unless told otherwise."""
        async with open_session(self.us.agent) as session:
            return await push_in(session, source, target, **changes)

    async def pull(self, site: LiveSite, name: str, sink: Path | str) -> Granted:
        """Pull as the agent of `site`."""
        repository, tag = name.split(":")
        async with open_session(site.agent) as session:
            return await run_pull(
                session,
                Repository(repository),
                Tag(tag),
                lambda kind: open_sink(str(sink), kind, tag=tag, name=name),
                Progress(),
            )

    async def show(self, transfer: str, site: LiveSite | None = None) -> TransferView:
        """Return a transfer as its sender sees it."""
        from carnet.identifiers import TransferId

        async with open_session((site or self.us).agent, connections=1) as session:
            return await session.client.show(TransferId(transfer))

    async def until(self, transfer: str, is_done: Callable[[TransferView], bool], timeout_s: float = 20) -> TransferView:
        """Return the first view of a transfer for which `is_done`."""
        from carnet.identifiers import TransferId

        async with open_session(self.us.agent, connections=1) as session:
            return await session.client.wait(TransferId(transfer), is_done, timeout_s)


async def push_in(session: Session, source: Path | str, target: str, **changes: Any) -> PushResult:
    """Push in a session that is open."""
    pieces = target.split(":")
    to_eu = len(pieces) == 3
    kind = changes.pop("kind", None)
    said = changes.pop("declare", {"classification": "internal", "purpose": "deploy"})
    progress = changes.pop("progress", None) or Progress()
    order = PushOrder(
        lane=LANE if to_eu else HOME_LANE,
        destinations=(SiteName("eu") if to_eu else session.site,),
        repository=Repository(pieces[-2]),
        tag=Tag(pieces[-1]),
        declarations=Declarations.model_validate(said),
        wait=Wait.DELIVERED,
        timeout_s=30,
    )
    opened = open_source(str(source), kind=None if kind is None else ArtifactKind(kind))
    return await run_push(session, opened, replace(order, **changes), progress)


async def make_template(root: Path, lane: str = "us-eu=us:eu", relays: tuple[str, ...] = (), *, have_met: bool = True) -> None:
    """Make both sites below `root`, with an enrolled agent each, and relays; `lane` as `trust propose --lane` takes it.

    They have met once, so that copies of them need not wait for each other's statements; unless `have_met` is false.
    """
    sites = {name: LiveSite(SiteName(name), root / name, root / f"agent-{name}") for name in ("us", "eu", *relays)}
    now = datetime.now(UTC)
    for name, site in sites.items():
        port = free_port()
        settings = GatewaySettings.model_validate(
            {
                "site": name,
                "jurisdiction": JURISDICTIONS[name],
                "operator": f"Example {name}",
                "trust_domain": "test.example",
                "url": f"https://localhost:{port}",
                "listen": (f"127.0.0.1:{port}",),
            }
        )
        await create_site(site.directory, settings, POLICIES.get(name, RELAY_POLICY), now)
    change = Change(
        roots=(ROOT_KEY.public,),
        threshold=1,
        cards=tuple(read_card(site.paths.card) for site in sites.values()),
        lanes=(parse_lane(lane),),
    )
    envelope = sign_proposal(unsigned(propose(None, change, now)), ROOT_KEY)
    for site in sites.values():
        async with open_site(site.directory) as opened:
            await opened.trust.import_bundle(envelope.encode(), root_fingerprint=None)
    for site in (sites["us"], sites["eu"]):
        await site.start()
        invite = await invite_agent(site, "agent")
        await enroll(invite, site.agent_dir / "identity", datetime.now(UTC))
        await site.stop()
    if have_met:
        async with _running(root):
            pass


async def invite_agent(site: LiveSite, name: str, grants: tuple[str, ...] = GRANTS) -> Invite:
    """Return a new invite of the site."""
    async with open_site(site.directory) as opened:
        order = InviteOrder(name=AgentName(name), grants=grants, url=site.settings.url)
        return await make_invite(opened.catalog, opened.facts, opened.authority().fingerprint, opened.trust, order)


@asynccontextmanager
async def world_from(template: Path, root: Path, *, start: bool = True) -> AsyncIterator[World]:
    """Yield a running copy of the template below `root`; all sites are stopped at the end."""
    shutil.copytree(template, root, dirs_exist_ok=True)
    async with _running(root, start=start) as world:
        yield world


@asynccontextmanager
async def _running(root: Path, *, start: bool = True) -> AsyncIterator[World]:
    """Yield the sites below `root`; all are stopped at the end."""
    names = sorted(path.parent.name for path in root.glob("*/gateway.toml"))
    sites = {name: LiveSite(SiteName(name), root / name, root / f"agent-{name}") for name in names}
    world = World(sites.pop("us"), sites.pop("eu"), root, sites)
    try:
        if start:
            await world.start()
        yield world
    finally:
        await world.stop()


async def know_each_other(world: World, ends: Collection[SiteName] | None = None) -> None:
    """Return once us knows the KEM keys of `ends` (us and eu) and every revocation set; others get ours with what us sends."""
    ends = {world.us.name, world.eu.name} if ends is None else set(ends)
    async with asyncio.timeout(60), open_session(world.us.agent, connections=1) as session:
        while True:
            response = await session.client.trust()
            known = {KemStatement.read_unverified(parse_envelope(one)).site for one in response.kem_statements}
            if known >= ends and len(response.revocations) == len(world.sites):
                return
            await asyncio.sleep(0.02)
