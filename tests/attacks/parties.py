"""Dishonest parties: an agent whose commit lies, and whoever holds all the keys of one site."""

import os
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.enroll import enroll
from agent.identity import load_identity
from agent.push import _releases
from agent.session import Session, open_session
from agent.settings import AgentSettings
from carnet.checkpoint import Checkpoint, log_origin, sign_checkpoint
from carnet.decision import Decision, Gate
from carnet.encoding import decode_base64, encode_base64
from carnet.entries import EntryType, LogEvent, commit_event
from carnet.envelope import parse_envelope
from carnet.flow.client import PeerClient
from carnet.flow.tls import ClientContext
from carnet.identifiers import Digest, SegmentId, SiteName, TransferId
from carnet.index_pages import open_page, seal_page
from carnet.keys import SigningKey
from carnet.messages import CommitRequest, ForwardRequest, KeyReleaseMessage, SignedStep, SiteMessage
from carnet.packing import IndexPage, PackingList, SegmentList, SegmentSummary
from carnet.proof import EntryProof
from carnet.release import open_release, site_recipient
from carnet.statement import parse_model
from carnet.suites import SUITE_1, segment_id
from carnet.timestamps import format_time
from carnet.trust import TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.offline import open_site
from tests.crossing.sites import LiveSite, World, invite_agent


def noise(path: Path, size: int, seed: int = 1) -> Path:
    """Write bytes that do not compress."""
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


async def new_agent(site: LiveSite, name: str, *grants: str) -> AgentSettings:
    """Enrol another agent at a site that runs; return the settings it works with."""
    directory = site.agent_dir.parent / f"{site.name}-{name}"
    await enroll(await invite_agent(site, name, grants), directory, datetime.now(UTC))
    return AgentSettings(url=site.settings.url, site=site.name, identity_dir=directory)


class Replacing:
    """A client some of whose calls a dishonest party replaced."""

    def __init__(self, inner: PeerClient, **replacements: Any) -> None:
        self._inner = inner
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def bent(session: Session, **replacements: Any) -> Session:
    """Return the session with calls replaced."""
    return replace(session, client=Replacing(session.client, **replacements))  # type: ignore[arg-type]


Change = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Lie:
    """What a dishonest agent changes before it signs: the waybill, the packing list, the segment list, the raw index."""

    waybill: Change | None = None
    packing: Change | None = None
    segments: Change | None = None
    index: Callable[[bytes], bytes] | None = None
    index_closure: Callable[[Digest], Digest] | None = None
    request: Change | None = None
    signed_by: SigningKey | None = None


def lying(session: Session, lie: Lie) -> Session:
    """Return a session whose commit tells `lie`, with valid signatures, wraps and key commitment over it."""

    async def commit(transfer: TransferId, request: CommitRequest) -> Any:
        return await session.client.commit(transfer, await _tell(session, transfer, request, lie))

    return bent(session, commit=commit)


async def _tell(session: Session, transfer: TransferId, request: CommitRequest, lie: Lie) -> CommitRequest:
    signing = lie.signed_by or session.identity.signing_key
    waybill = Waybill.read_unverified(parse_envelope(request.waybill))
    packing = PackingList.read_unverified(parse_envelope(request.packing_list))
    segments = SegmentList.parse(decode_base64(request.segment_list))
    own = next(one for one in request.releases if one.recipient == session.identity.id)
    key = open_release(own, packing, session.identity.kem_key, recipient=session.identity.id)
    changes: dict[str, Any] = {}
    if lie.index is not None:
        changes["index"] = await _seal_lie(session, transfer, packing, waybill.closure, key, lie)
    if lie.waybill is not None:
        waybill = lie.waybill(waybill)
    if lie.segments is not None:
        segments = lie.segments(segments)
    changes |= {"waybill": waybill.digest, "segments": SegmentSummary.of(segments)}
    packing = packing.model_copy(update=changes)
    if lie.packing is not None:
        packing = lie.packing(packing)
    honest = packing.model_copy(update={"suite": SUITE_1, "sites": tuple(sorted({session.site, *waybill.destinations}))})
    told = CommitRequest(
        waybill=waybill.sign(signing).to_json(),
        packing_list=packing.sign(signing).to_json(),
        segment_list=encode_base64(segments.encode()),
        releases=_releases(session, packing if honest == packing else honest, key),
    )
    return told if lie.request is None else lie.request(told)


async def _seal_lie(
    session: Session, transfer: TransferId, packing: PackingList, closure: Digest, key: bytes, lie: Lie
) -> tuple[IndexPage, ...]:
    """Return the pages of the index as `lie` has it, once they are at the site."""
    assert lie.index is not None
    assert len(packing.index) == 1
    where = {"suite": SUITE_1, "artifact_key": key, "transfer": transfer, "number": 0, "last": True}
    sealed = await session.client.segment(packing.index[0].id)
    raw = lie.index(open_page(sealed, closure=closure, **where))  # type: ignore[arg-type]
    closure = closure if lie.index_closure is None else lie.index_closure(closure)
    page = seal_page(raw, closure=closure, nonce=os.urandom(12), **where)  # type: ignore[arg-type]
    name = segment_id(SUITE_1, page)
    await session.client.put_segment(transfer, name, page, None)
    return (IndexPage(id=name, size=len(page)),)


@dataclass
class Peers:
    """All keys of both sites, and connections under their certificates."""

    world: World
    bundle: TrustBundle
    agent_key: SigningKey
    keys: dict[str, SigningKey]
    clients: dict[str, PeerClient]

    @property
    def domain(self) -> str:
        return self.bundle.trust_domain

    async def declared(self, transfer: TransferId, *, by: str = "us", to: str = "eu") -> ForwardRequest:
        """Return the declaration with which `by` forwarded `transfer`, as `to` kept it."""
        async with open_site(getattr(self.world, to).directory) as site:

            def read(tx: Any) -> ForwardRequest:
                def kept(name: str) -> bytes:
                    return documents.need(tx, transfer, name)

                return ForwardRequest(
                    transfer=transfer,
                    site=SiteName(by),
                    waybill=documents.envelope_json(kept(documents.WAYBILL)),
                    agent_statement=documents.envelope_json(kept(documents.AGENT_STATEMENT)),
                    packing_list=documents.envelope_json(kept(documents.PACKING_LIST)),
                    segment_list=encode_base64(kept(documents.SEGMENT_LIST)),
                    offer=_step(tx, transfer, Gate.OFFER, to),
                )

            return await site.catalog.read(read)

    async def key_message(self, transfer: TransferId) -> SiteMessage:
        """Return the message with which us released the key of `transfer` to eu."""
        async with open_site(self.world.eu.directory) as site:
            step = await site.catalog.read(lambda tx: _step(tx, transfer, Gate.RELEASE, "eu"))
        return SiteMessage(body=KeyReleaseMessage(number=0, release=await self.release(transfer), step=step))

    async def release(self, transfer: TransferId) -> Any:
        """Return the key release for eu that us keeps."""
        name = documents.release_name(site_recipient(self.domain, SiteName("eu")))
        async with open_site(self.world.us.directory) as site:
            return await site.catalog.read(lambda tx: documents.read_release(documents.need(tx, transfer, name)))

    def retold(self, request: ForwardRequest, **waybill_changes: Any) -> tuple[ForwardRequest, Decision]:
        """Return the declaration as one of a new transfer, all of it signed anew, with a log of one entry made for it."""
        waybill = Waybill.read_unverified(parse_envelope(request.waybill))
        packing = PackingList.read_unverified(parse_envelope(request.packing_list))
        transfer = TransferId(secrets.token_hex(16))
        waybill = waybill.model_copy(update={"transfer": transfer, "turn": waybill.turn + 1, **waybill_changes})
        packing = packing.model_copy(update={"transfer": transfer, "waybill": waybill.digest})
        decision = Decision.read_unverified(parse_envelope(request.offer.decision)).model_copy(
            update={"transfer": transfer, "waybill": waybill.digest, "packing": packing.digest}
        )
        told = request.model_copy(
            update={
                "transfer": transfer,
                "waybill": waybill.sign(self.agent_key).to_json(),
                "packing_list": packing.sign(self.agent_key).to_json(),
                "offer": self.forged(decision),
            }
        )
        return told, decision

    def forged(
        self,
        decision: Decision,
        *,
        key: SigningKey | None = None,
        log: str = "us",
        kind: EntryType = EntryType.DECISION_OFFER,
        commits_to: Digest | None = None,
    ) -> SignedStep:
        """Return `decision` signed, with a proof from a log of one entry that was made up for it."""
        signing = key or self.keys["us"]
        said = {"transfer": str(decision.transfer), "decision": str(commits_to or decision.digest)}
        entry = commit_event(LogEvent(kind, format_time(now()), said), lambda: secrets.token_bytes(32))
        head = sign_checkpoint(Checkpoint(log_origin(self.domain, SiteName(log)), 1, entry.leaf_hash), signing)
        return SignedStep(decision=decision.sign(signing).to_json(), proof=EntryProof.make(entry, 0, [], head.encode()))

    def proof(self, site: str, kind: EntryType, **fields: str) -> EntryProof:
        """Return a proof from a log of one entry that whoever holds the key of `site` made up."""
        entry = commit_event(LogEvent(kind, format_time(now()), fields), lambda: secrets.token_bytes(32))
        head = sign_checkpoint(Checkpoint(log_origin(self.domain, SiteName(site)), 1, entry.leaf_hash), self.keys[site])
        return EntryProof.make(entry, 0, [], head.encode())


def _step(tx: Any, transfer: TransferId, gate: Gate, site: str) -> SignedStep:
    return SignedStep(
        decision=documents.envelope_json(documents.need(tx, transfer, documents.decision_name(gate, site))),
        proof=parse_model(
            EntryProof,
            documents.need(tx, transfer, documents.proof_name(gate, SiteName(site))),
            bytes_max=1 << 20,
        ),
    )


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def soon() -> str:
    """Return an hour from now, as documents write it."""
    return format_time(now() + timedelta(hours=1))


def gateway_client(of: LiveSite, to: LiveSite, bundle: TrustBundle) -> PeerClient:
    """Return a connection to `to` under the certificate of `of`."""
    context = ClientContext(of.paths.tls_certificate, of.paths.tls_key, bundle.site(to.name).tls_ca)
    return PeerClient([to.settings.url], context, gateway=site_recipient(bundle.trust_domain, to.name), connections=2)


@asynccontextmanager
async def peers_of(world: World) -> AsyncIterator[Peers]:
    """Yield the keys of both sites, which run."""
    keys = {}
    for site in (world.us, world.eu):
        async with open_site(site.directory) as opened:
            keys[str(site.name)] = opened.keyring().signing
    async with open_session(world.us.agent, connections=1) as session:
        bundle = session.bundle
    clients = {
        "us": gateway_client(world.us, world.eu, bundle),
        "eu": gateway_client(world.eu, world.us, bundle),
    }
    try:
        yield Peers(world, bundle, load_identity(world.us.agent.identity_dir).signing_key, keys, clients)
    finally:
        for client in clients.values():
            await client.close()


def segment_of(data: bytes) -> SegmentId:
    """Return the id of sealed bytes."""
    return segment_id(SUITE_1, data)
