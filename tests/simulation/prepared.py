"""What all seeds share: three sites with keys, trust and agents, and sealed artifacts ready to be pushed. Made once a process.

Sites are made as operators make them, in a directory that is thrown away; agents enrol; artifacts are sealed by the product's own
pipeline. Then the three sites run in calm weather until they know each other; what they hold then is each seed's beginning.
"""

import asyncio
import random
import secrets
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec

from agent import push, resume, session
from agent.enroll import _encode_key, _make_request
from agent.push import PushOrder, _declaration, _send_and_commit
from agent.resume import Resume, _with_keys
from agent.session import Session
from agent.settings import AgentSettings
from agent.sources import open_source
from carnet.chunking import ChunkSizes
from carnet.encoding import decode_base64
from carnet.envelope import parse_envelope
from carnet.flow import sealing
from carnet.flow.progress import Progress
from carnet.identifiers import AgentName, LaneName, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.identity import AgentIdentity, AgentKeys
from carnet.invite import encode_secret
from carnet.keys import KemPrivateKey, SigningKey
from carnet.messages import Advice, CommitRequest, CommitResponse, DeclareRequest, DeclareResponse, SealedArtifact
from carnet.oci import ArtifactKind
from carnet.packing import SegmentList
from carnet.release import ResumePair
from carnet.trust import open_kem_statement
from carnet.waybill import Declarations, Waybill
from gateway.catalog.engine import SqliteCatalog
from gateway.enrolment import Enrolment, InviteOrder, SiteFacts, make_invite
from gateway.keyring import FileKeyring
from gateway.offline import create_site, row_seal
from gateway.policies import PolicyBook
from gateway.proposals import Change, parse_lane, propose, read_card, sign_proposal, unsigned
from gateway.settings import GatewaySettings
from gateway.sitedir import SitePaths, load_authority
from gateway.trusting import Trust
from tests.simulation import network
from tests.simulation.disk import SimulatedDisk
from tests.simulation.site import LOG, STORE, Prepared

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
SITES = {"us": "US", "eu": "DE", "sg": "SG"}
LANE = LaneName("us-world")
REPOSITORY = Repository("app")
_GRANTS = ("push,pull,delete,inspect:*@*",)
_POLICY = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {{id: {name}, version: 1, owner: the simulation}}
rules:
  - id: here
    at: [offer, release, receipt]
    when: {{artifact.classification: [public, internal]}}
    effect: {effect}
    reason: the scenario says so
    remedy: ask the seed
"""


@dataclass(frozen=True)
class SealedPush:
    """Everything an agent sends in one push, sealed and signed."""

    request: DeclareRequest
    segments: dict[SegmentId, tuple[bytes, bytes | None]]
    """By id, in the order in which they were sealed: bytes and row."""
    commit: CommitRequest
    parts: tuple[str, ...]
    """What the parts of the artifact hash to."""

    @property
    def transfer(self) -> TransferId:
        return self.request.transfer


@dataclass
class World:
    """What every seed begins with."""

    start: datetime
    sites: dict[str, Prepared]
    sessions: dict[str, Session]
    """Of an agent at each site; `us` pushes, the others pull."""
    pushes: dict[str, SealedPush]
    """`first`; `second` builds on it; `again` replaces it under its tag; `alone` has a tag of its own."""
    directory: "tempfile.TemporaryDirectory[str] | None" = None


@dataclass
class _Recorder:
    """A client that keeps what an agent sends."""

    segments: dict[SegmentId, tuple[bytes, bytes | None]] = field(default_factory=dict)
    request: CommitRequest | None = None
    older: dict[SegmentId, bytes] = field(default_factory=dict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def put_segment(self, _transfer: TransferId, segment: SegmentId, body: Any, row: bytes | None) -> bool:
        self.segments[segment] = (bytes(body), row)
        return True

    async def segment(self, segment: SegmentId) -> bytes:
        return self.older[segment] if segment in self.older else self.segments[segment][0]

    async def commit(self, _transfer: TransferId, request: CommitRequest) -> CommitResponse:
        self.request = request
        return CommitResponse(state="received")


class _Log:
    """Stands for the log of a site that does not run yet."""

    async def checkpointed(self, index: int) -> None:
        """Nothing leaves the preparation."""


class _Clock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


def prepare() -> World:
    """Make the world; some seconds. Its directory, with the key files, goes when the world does."""
    directory = tempfile.TemporaryDirectory()
    world = asyncio.run(_prepare(Path(directory.name)))
    world.directory = directory
    return world


async def _prepare(root: Path) -> World:
    start = START
    network.ENROLLED = start
    settings = {}
    for number, (name, country) in enumerate(SITES.items()):
        settings[name] = GatewaySettings.model_validate(
            {
                "site": name,
                "jurisdiction": country,
                "operator": f"Example {name}",
                "trust_domain": "test.example",
                "url": f"https://localhost:{20_000 + number}",
                "listen": (f"127.0.0.1:{20_000 + number}",),
            }
        )
        await create_site(root / name, settings[name], _POLICY.format(name=name, effect="allow"), start)
    key = SigningKey(bytes(range(32)))
    change = Change(
        roots=(key.public,),
        threshold=1,
        cards=tuple(read_card(SitePaths(root / name).card) for name in SITES),
        lanes=(parse_lane(f"{LANE}=us:eu,sg"),),
    )
    bundle = sign_proposal(unsigned(propose(None, change, start)), key).encode()
    sites, identities = {}, {}
    for name in SITES:
        sites[name], identities[name] = await _site(root / name, settings[name], bundle, start)
    world = World(start, sites, {}, {})
    await _acquaint(world)
    for name in SITES:
        world.sessions[name] = _session(root / name, settings[name], identities[name], sites, start)
    await _seal_all(world, root)
    return world


async def _site(root: Path, settings: GatewaySettings, bundle: bytes, start: datetime) -> tuple[Prepared, AgentIdentity]:
    paths, clock = SitePaths(root), _Clock(start)
    catalog = SqliteCatalog(paths.catalog, clock=clock, seal=row_seal(paths), readers=1)
    keyring, authority = FileKeyring.load(paths.keys), load_authority(paths)
    try:
        trust = Trust(catalog, None, clock, settings.site)
        await trust.import_bundle(bundle)
        facts = SiteFacts(settings.trust_domain, settings.site, settings.operator)
        order = InviteOrder(name=AgentName("agent"), grants=_GRANTS, url=settings.url)
        invite = await make_invite(catalog, facts, authority.fingerprint, trust, order)
        tls = ec.generate_private_key(ec.SECP256R1())
        keys = AgentKeys(SigningKey(secrets.token_bytes(32)), KemPrivateKey(secrets.token_bytes(32)), _encode_key(tls))
        enrolment = Enrolment(
            catalog=catalog, log=_Log(), keyring=keyring, authority=authority, trust=trust, facts=facts, clock=clock
        )  # type: ignore[arg-type]
        request = keys.request(invite=invite.id, secret=encode_secret(invite.secret), csr=_make_request(tls))
        response = await enrolment.enroll(request)
        identity = AgentIdentity.create(keys=keys, ca=invite.ca, roots=invite.root, response=response, now=start)
    finally:
        catalog.close()
    books = {}
    for effect in ("allow", "hold", "deny"):
        (root / effect).mkdir()
        (root / effect / "policy.yaml").write_text(_POLICY.format(name=settings.site, effect=effect))
        books[effect] = PolicyBook(root / effect)
    disk = SimulatedDisk()
    for directory in (Path("/site"), STORE, LOG):
        disk.make_directory(directory)
        disk.sync_directory(directory.parent)
    image = bytearray(paths.catalog.read_bytes())
    image[18:20] = b"\x01\x01"  # no write-ahead log: a database in memory has none
    sealer = row_seal(paths)
    sealer.seal("turns", {})  # the key is read now, while its file is there
    return Prepared(settings, keyring, authority, sealer, books, bytes(image), disk), identity


async def _acquaint(world: World) -> None:
    """Run the sites in calm weather until each knows what the others state, and keep what they hold then."""
    from tests.simulation.scenario import calm

    found = await asyncio.to_thread(calm, world)
    world.sites = found


def _session(
    root: Path, settings: GatewaySettings, identity: AgentIdentity, sites: dict[str, Prepared], start: datetime
) -> Session:
    bundle = identity.trust.current
    statements = []
    for prepared in sites.values():
        statements += [open_kem_statement(parse_envelope(one), bundle) for one in prepared_statements(prepared)]
    return Session(
        AgentSettings(url=settings.url, site=settings.site, identity_dir=root / "agent", cache_mib=0),
        identity,
        None,  # type: ignore[arg-type]
        bundle,
        tuple(statements),
    )


def prepared_statements(prepared: Prepared) -> list[bytes]:
    """Return the KEM statements of a prepared site itself."""
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.deserialize(prepared.catalog)
    name = f"kem/{prepared.settings.site}/%"
    return [row[0] for row in connection.execute("SELECT body FROM site_documents WHERE name LIKE ?", (name,))]


async def _seal_all(world: World, root: Path) -> None:
    first, more = root / "first", root / "second"
    content = random.Random(1).randbytes(2_400_000)
    first.write_bytes(content)
    more.write_bytes(content[:2_200_000] + random.Random(2).randbytes(150_000))
    seal = _Sealer(world)
    with ExitStack() as stack:
        for module in (push, resume, session):
            stack.enter_context(mock.patch.object(module, "now", return_value=START))
        stack.enter_context(mock.patch.object(sealing, "_SEALERS", 1))  # two threads would draw keys in any order
        await _seal_each(seal, first, more)


async def _seal_each(seal: "_Sealer", first: Path, more: Path) -> None:
    await seal.push("first", first, "v1", number=1)
    await seal.push("second", more, "v2", number=2, base="first")
    await seal.push("again", more, "v1", number=3, previous="first")
    await seal.push("alone", more, "v3", number=4)


@dataclass
class _Sealer:
    world: World

    async def push(self, name: str, path: Path, tag: str, *, number: int, base: str = "", previous: str = "") -> None:
        """Seal one push and keep it under `name`."""
        from dataclasses import replace

        before = self.world.pushes
        recorder = _Recorder(older={one: body for push in before.values() for one, (body, _) in push.segments.items()})
        session = replace(self.world.sessions["us"], client=recorder)  # type: ignore[type-var]
        order = PushOrder(
            lane=LANE,
            destinations=(SiteName("eu"), SiteName("sg")),
            repository=REPOSITORY,
            tag=Tag(tag),
            declarations=Declarations.model_validate({"classification": "internal", "purpose": "deploy"}),
        )
        source = open_source(f"file:{path}", kind=ArtifactKind.FILE)
        transfer, sizes = TransferId(f"{number:032x}"), ChunkSizes(16_384)
        lineage = _LINEAGE
        keys = ResumePair(secrets.token_bytes(32), lineage)
        request = _with_keys(session, _declaration(order, source, transfer, None), keys, sizes)
        waybill = Waybill.read_unverified(parse_envelope(before[previous].commit.waybill)).digest if previous else None
        answer = DeclareResponse(
            transfer=transfer,
            state="declared",
            advice=Advice(outcome="allow", reasons=()),
            previous=waybill,
            turn=2 if previous else 1,
            trust_version=session.bundle.version,
            bases=(_sealed(before[base], session.identity.id),) if base else (),
            expires="2030-01-01T00:00:00Z",
        )
        await _send_and_commit(session, source, order, Progress(), Resume(answer, keys, sizes, is_continued=False))
        assert recorder.request is not None
        listed = SegmentList.parse(decode_base64(recorder.request.segment_list))
        assert listed.count > 1
        before[name] = SealedPush(request, recorder.segments, recorder.request, ())


_LINEAGE = bytes(range(32))


def _sealed(push: SealedPush, agent: SpiffeId) -> SealedArtifact:
    own = next(one for one in push.commit.releases if one.recipient == agent)
    commit = push.commit
    return SealedArtifact(waybill=commit.waybill, packing_list=commit.packing_list, segment_list=commit.segment_list, release=own)
