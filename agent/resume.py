"""Finds the transfer to continue, or begins one: the declaration, and the keys that make a restarted push find its rows.

Resume key and lineage key are wrapped to ourselves, signed, and kept by the site. Rows are used only if that wrap is by our own
key. A new transfer inherits the lineage of its newest base, which is known only after declaring: then it declares once more, with
the keys that hold.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.bases import OpenedArtifact, newest_lineage, open_sealed
from agent.ports import Source
from agent.session import Session, now
from carnet.chunking import ChunkSizes
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError
from carnet.flow.chunking_stage import KnownSegment
from carnet.identifiers import Digest, SegmentId, TransferId
from carnet.limits import MIB
from carnet.messages import DeclareRequest, DeclareResponse, SealedArtifact
from carnet.oci import Role
from carnet.release import ResumeKeys, ResumePair
from carnet.rows import open_row, row_capacity
from carnet.suites import KEY_BYTES, SUITE_1
from carnet.timestamps import format_time

_CHUNK_AVERAGE = 16_384
_CHUNK_AVERAGE_LARGE = 32_768
_LARGE_BYTES = 4096 * MIB
"""From 4 GiB on, chunks are 32 KiB on average: half the index for a few per cent more bytes in a later delta."""
_READ_BYTES = 4 * MIB

Declaration = Callable[[TransferId, dict[str, object] | None, bool], DeclareRequest]
"""Makes the declaration for a transfer id, a signed resume statement, and whether to begin anew."""


@dataclass(frozen=True)
class Resume:
    """A transfer ready to be sent, with the keys for its rows and chunk ids."""

    answer: DeclareResponse
    keys: ResumePair
    sizes: ChunkSizes
    is_continued: bool
    is_committed: bool = False
    base: OpenedArtifact | None = None
    """The base whose lineage was inherited, opened already."""
    sizes_sent: dict[SegmentId, int] = field(default_factory=dict)
    """Sealed sizes of the segments of this transfer, by id; the sender fills it in."""


async def continue_or_begin(session: Session, source: Source, declaration: Declaration, *, fresh: bool = False) -> Resume:
    """Declare, and return the transfer to send: the one that is open if it is ours to continue, else (or if `fresh`) a new one.

    Raises what `PeerClient.declare` raises: `Refused` when the declaration alone is denied.
    """
    sizes = ChunkSizes(_CHUNK_AVERAGE_LARGE if (source.size_hint or 0) >= _LARGE_BYTES else _CHUNK_AVERAGE)
    transfer = TransferId(secrets.token_hex(16))
    keys = ResumePair(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))
    first = declaration(transfer, None, fresh)
    answer = await session.client.declare(_with_keys(session, first, keys, sizes))
    if answer.transfer != transfer:
        found = await _continued(session, source, answer, first)
        if found is not None:
            return found
        first = declaration(transfer, None, True)
        answer = await session.client.declare(_with_keys(session, first, keys, sizes))
    base = await newest_lineage(session, answer.bases)
    if base is not None:
        keys = ResumePair(keys.resume_key, base.index.head.lineage_key)
        sizes = base.index.head.sizes
        again = declaration(transfer, None, False)
        answer = await session.client.declare(_with_keys(session, again, keys, sizes))
    return Resume(answer, keys, sizes, is_continued=False, base=base)


async def known_segments(session: Session, resume: Resume) -> list[KnownSegment]:
    """Return the segments of this transfer that the site holds, as their rows tell; a row that does not open is not known."""
    if resume.answer.rows == 0 and not resume.sizes_sent:
        return []
    found = []
    transfer = resume.answer.transfer
    async for sent in session.client.rows(transfer):
        try:
            row = open_row(
                sent.row,
                suite=SUITE_1,
                resume_key=resume.keys.resume_key,
                transfer=transfer,
                segment=sent.segment,
                capacity=row_capacity(resume.sizes),
            )
        except CarnetError:
            continue
        resume.sizes_sent[sent.segment] = sent.size
        found.append(KnownSegment(sent.segment, row))
    return found


def _with_keys(session: Session, request: DeclareRequest, keys: ResumePair, sizes: ChunkSizes) -> DeclareRequest:
    own = session.identity
    statement = ResumeKeys.make(
        keys,
        own.kem_key.public,
        agent=own.id,
        transfer=request.transfer,
        lane=request.lane,
        repository=request.repository,
        tag=request.tag,
        suite=SUITE_1,
        chunk_average=sizes.average,
        at=format_time(now()),
    )
    return request.model_copy(update={"resume": statement.sign(own.signing_key).to_json()})


async def _continued(session: Session, source: Source, answer: DeclareResponse, request: DeclareRequest) -> Resume | None:
    """Return the open transfer as one to continue, or None if it is not ours, of another target or of another source."""
    if answer.committed is not None:
        return await _committed(session, source, answer, answer.committed, request)
    if answer.resume is None:
        return None
    own = session.identity
    try:
        statement = ResumeKeys.open(parse_envelope(answer.resume), [own.signing_key.public])
        keys = statement.open_keys(own.kem_key)
    except CarnetError:
        return None
    if (statement.transfer, statement.agent) != (answer.transfer, own.id):
        return None
    if (statement.lane, statement.repository, statement.tag) != (request.lane, request.repository, request.tag):
        return None
    return Resume(answer, keys, ChunkSizes(statement.chunk_average), is_continued=True)


async def _committed(
    session: Session, source: Source, answer: DeclareResponse, sealed: SealedArtifact, request: DeclareRequest
) -> Resume | None:
    """Return our committed transfer as one to wait for, if it has this target and the source is what was committed."""
    try:
        opened = await open_sealed(session, sealed)
    except CarnetError:
        return None
    waybill = opened.waybill
    target = (waybill.transfer, waybill.lane, waybill.repository, waybill.tag, waybill.destinations)
    if target != (answer.transfer, request.lane, request.repository, request.tag, request.destinations):
        return None
    if waybill.declarations != request.declarations or not await _is_same(source, opened):
        return None
    nothing = ResumePair(bytes(KEY_BYTES), opened.index.head.lineage_key)
    return Resume(answer, nothing, opened.index.head.sizes, is_continued=True, is_committed=True)


async def _is_same(source: Source, opened: OpenedArtifact) -> bool:
    """Tell whether the source is what was committed; reads it once if its digest is not known. A stream cannot be asked."""
    if source.kind != opened.waybill.kind:
        return False
    if source.digest is not None:
        return source.digest == opened.waybill.artifact
    return source.is_rereadable and await asyncio.to_thread(_root_digest, source) == opened.waybill.artifact


def _root_digest(source: Source) -> Digest | None:
    root = None
    view = memoryview(bytearray(_READ_BYTES))
    for part in source.parts():
        hasher, size = hashlib.sha256(), 0
        reader = part.open()
        try:
            while count := reader.readinto(view):
                hasher.update(view[:count])
                size += count
        finally:
            reader.close()
        digest = Digest.from_raw(hasher.digest())
        part.completed(digest, size)
        if part.role is Role.ARTIFACT:
            root = digest
    return root
