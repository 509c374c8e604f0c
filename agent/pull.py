"""Pull: ask the home site for an artifact, check every signature and proof, fetch, open, verify, and write it whole.

Steps: (1) the site's `release` decision for us, proved to be in its log; (2) waybill by its originator, whom its site vouches
for; packing list by the originator or its site; the `delivered` receipt of the home site; (3) our key, checked against the
commitment; (4) the index, canonical and of that waybill; (5) every part's digest; (6) the sink commits. Until then nothing is
visible.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent.ports import PartHead, Sink
from agent.session import Session, now
from agent.turns import check_turn, remember_turn
from carnet.chunking import Buffer
from carnet.contents import check_contents
from carnet.decision import Gate
from carnet.encoding import decode_base64
from carnet.envelope import parse_envelope
from carnet.errors import Held, IntegrityError
from carnet.flow.ending import in_thread
from carnet.flow.opening import PartWriter, open_index, open_parts
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, SegmentId, Tag
from carnet.index import Part
from carnet.lane_mode import open_packing
from carnet.messages import ArtifactRelease, ArtifactView
from carnet.oci import ArtifactKind, Role
from carnet.packing import PackingList, SegmentList
from carnet.receipt import Receipt, ReceiptKind
from carnet.release import open_release
from carnet.steps import Expected, require_allow, verify_step
from carnet.timestamps import parse_time
from carnet.trust import open_agent_statement
from carnet.waybill import Waybill


@dataclass(frozen=True)
class Granted:
    """An artifact that the site released to us, after everything signed about it verified."""

    view: ArtifactView
    waybill: Waybill
    packing: PackingList
    segments: SegmentList
    artifact_key: bytes

    def __repr__(self) -> str:
        return f"Granted({self.view.repository}:{self.view.tag})"


async def pull(
    session: Session,
    repository: Repository,
    tag: Tag,
    sink_of: Callable[[ArtifactKind], Sink],
    progress: Progress,
) -> Granted:
    """Write the artifact to the sink that `sink_of` returns for its kind; return what was granted.

    Raises:
        Held, Refused: the site's policy. NotFound: E-ARTIFACT-UNKNOWN. IntegrityError: whatever does not verify; nothing was
        written then. CallerError: E-SINK.
    """
    granted = verify_release(session, await session.client.artifact_release(repository, tag))
    if (granted.waybill.repository, granted.waybill.tag) != (repository, tag):
        name = f"{granted.waybill.repository}:{granted.waybill.tag}"
        raise IntegrityError("E-SIGNATURE", f"asked for {repository}:{tag}, the site answered with {name}")
    await asyncio.to_thread(check_turn, session.settings.identity_dir, granted.waybill)
    sink = sink_of(ArtifactKind(granted.view.kind))
    progress.total = granted.waybill.size
    try:
        index = await open_index(
            [page.id for page in granted.packing.index],
            session.client.segment,
            suite=granted.packing.suite,
            artifact_key=granted.artifact_key,
            transfer=granted.packing.transfer,
            closure=granted.waybill.closure,
            segments=granted.segments.count,
            size=granted.waybill.size,
        )
        check_contents(index, granted.waybill, granted.packing, granted.segments)
        root = next(entry.part for entry in index.parts if entry.part.role is Role.ARTIFACT)
        await in_thread(sink.begin, root)

        async def fetch(segment: SegmentId) -> Buffer:
            return await session.client.segment(segment)

        def writer_of(part: Part) -> PartWriter:
            head: PartHead = part
            return sink.part(head)

        await open_parts(index, fetch, suite=granted.packing.suite, writer_of=writer_of, progress=progress)
        await in_thread(sink.commit)
        await asyncio.to_thread(remember_turn, session.settings.identity_dir, granted.waybill)
    except BaseException:
        await in_thread(sink.abort)
        raise
    return granted


def verify_release(session: Session, release: ArtifactRelease) -> Granted:
    """Return what the site released after steps (1) to (3); raise `IntegrityError` for whatever does not verify."""
    bundle, own = session.bundle, session.identity
    home = bundle.site(session.site)
    statement = open_agent_statement(parse_envelope(release.agent_statement), bundle)
    waybill = Waybill.open(parse_envelope(release.waybill), [statement.signing_key])  # (2)
    revoked = session.revocations.reason_against(statement)
    if revoked is not None:
        raise Held("E-REVOKED", f"waybill of {waybill.transfer} is by {statement.identity}, which is revoked ({revoked})")
    if waybill.declarations.is_controlled:
        session.identity.trust.check_fresh(now())  # no grace for this one
    if waybill.origin.agent != statement.identity or not statement.is_valid_at(parse_time(waybill.at)):
        raise IntegrityError("E-SIGNATURE", f"waybill of {waybill.transfer} is not by its originator")
    packing = open_packing(parse_envelope(release.packing_list), waybill, statement.signing_key, bundle)
    segments = SegmentList.parse(decode_base64(release.segment_list))
    packing.check_segments(segments)
    view = release.artifact
    if (view.digest, view.kind, view.repository, view.tag) != (
        waybill.artifact,
        waybill.kind,
        waybill.repository,
        waybill.tag,
    ):
        raise IntegrityError("E-SIGNATURE", f"the site shows {view.repository}:{view.tag} otherwise than its waybill")
    receipt = Receipt.open(parse_envelope(release.receipt), [home.signing_key])
    about = (receipt.kind, receipt.site, receipt.transfer, receipt.packing, receipt.artifact)
    if about != (ReceiptKind.DELIVERED, home.name, waybill.transfer, packing.digest, waybill.artifact):
        raise IntegrityError("E-SIGNATURE", f"the receipt of {home.name} is not that {waybill.transfer} was delivered")
    decision = verify_step(  # (1)
        release.step,
        site=home,
        trust_domain=bundle.trust_domain,
        expected=Expected(
            gate=Gate.RELEASE,
            transfer=waybill.transfer,
            waybill=waybill.digest,
            packing=packing.digest,
            consumer=own.id,
            recipient_key=own.kem_key.public.digest,
        ),
    )
    require_allow(decision, now())
    artifact_key = open_release(release.release, packing, own.kem_key, recipient=own.id)  # (3)
    return Granted(view, waybill, packing, segments, artifact_key)
