"""Takes transfers from agents: declare, rows for a resumed push, segments.

A declaration alone can be refused before a byte moves. Declaring again what the same identity has open answers with that
transfer, so an interrupted push finds itself, from whatever machine. Commit is its own file, `commit`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from carnet.decision import Outcome
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, CapacityError, Conflict, NotAuthorised, NotFound
from carnet.identifiers import SegmentId, SpiffeId, TransferId
from carnet.messages import Advice, CommitRequest, CommitResponse, DeclareRequest, DeclareResponse, SealedArtifact
from carnet.policy.obligations import binding
from carnet.timestamps import format_time
from carnet.transfer import ORIGIN, may, step
from carnet.trust import Lane, TrustBundle
from carnet.waybill import Origin
from gateway import documents
from gateway.advising import advise
from gateway.commit import Commit
from gateway.deciding import Judgement, judge_declaration, refused
from gateway.duties import make_duties
from gateway.lately import Lately
from gateway.ownership import own_transfer
from gateway.ports import Transaction
from gateway.quotas import require_bytes, require_open
from gateway.records import StoredSegment, TransferRecord
from gateway.sealed_artifacts import sealed_artifact
from gateway.services import Services

_BASES_OFFERED = 4
_ROWS_A_PAGE = 512
_TURN_S = 1.0
"""How long a declaration waits to be told what is missing while others are."""


class Receive:
    """The agent-facing half of a push; every call names the authenticated identity."""

    def __init__(self, services: Services, commit: Commit) -> None:
        """Use the site's services; `commit` ends a push."""
        self._services = services
        self._commit = commit
        self._lately = Lately()
        self._advising = asyncio.Semaphore(1)

    async def declare(self, identity: SpiffeId, request: DeclareRequest) -> DeclareResponse:
        """Answer a declaration: advice, the transfer's id, what is already there, what may be built upon.

        Raises:
            Refused: E-DENIED with `reasons`, when the declaration alone is denied; recorded and logged.
            NotAuthorised: E-NOT-ALLOWED. Held: E-TRUST-EXPIRED. CapacityError: E-LIMIT open_transfers_max.
            NotFound: E-LANE-UNKNOWN. CallerError: E-REQUEST for a destination that is not on the lane.
        """
        services = self._services
        bundle = services.trust.ground()
        lane = bundle.lane(request.lane, services.site)
        _check_lane(lane, request, services)
        record = await services.catalog.read(lambda tx: tx.identity(identity))
        services.access.require(record, "push", request.repository, request.lane)
        origin = Origin(site=services.site, agent=identity, initiator=request.initiator)
        policy = services.policies.policy
        judgements = await services.catalog.read(lambda tx: judge_declaration(tx, services, bundle, request, origin))
        advice = await self._advise(
            lambda looks: advise(judgements, policy, bundle, lane, request, services.clock.now(), looks=looks)
        )
        if request.dry_run:
            return _response(request.transfer, "declared", advice, bundle, format_time(services.clock.now()))
        if Outcome(advice.outcome) is Outcome.DENY:
            await services.catalog.write(lambda tx: self._refuse(tx, identity, request, bundle, judgements))
            name, sites = f"{request.repository}:{request.tag}", ", ".join(request.destinations)
            raise refused(f"{name} may not go to {sites}", advice.reasons)
        orphans: list[SegmentId] = []
        answer = await services.catalog.write(lambda tx: self._open(tx, identity, request, bundle, advice, orphans))
        await services.remove_unneeded(orphans)
        return answer

    async def _advise(self, advise: Callable[[bool], Advice]) -> Advice:
        """Return the advice, with what is missing if its turn comes soon: one is looked for at a time, beside everything else."""
        try:
            async with asyncio.timeout(_TURN_S):
                await self._advising.acquire()
        except TimeoutError:
            return advise(False)
        try:
            return await asyncio.to_thread(advise, True)
        finally:
            self._advising.release()

    def _refuse(
        self,
        tx: Transaction,
        identity: SpiffeId,
        request: DeclareRequest,
        bundle: TrustBundle,
        judgements: list[Judgement],
    ) -> None:
        """Record a denial at declaration: it is a decision like any other, and shows in lists and in the log."""
        if tx.transfer(request.transfer) is not None:
            return
        denied = next(judgement for judgement in judgements if judgement.outcome is Outcome.DENY)
        record = self._record(tx, identity, request)
        tx.save_transfer(
            replace(record, state=step(ORIGIN, "declared", "deny"), outcome=Outcome.DENY, reasons=denied.reason_rows())
        )
        tx.append(
            EntryType.DECISION_OFFER,
            {
                "transfer": request.transfer,
                "identity": identity,
                "repository": request.repository,
                "destinations": list(request.destinations),
                "outcome": Outcome.DENY,
                "policy": denied.policy,
                "rules": [reason.rule for reason in denied.views],
                "trust-version": bundle.version,
            },
        )
        for judgement in judgements:
            if judgement.outcome is not Outcome.DENY:
                continue  # nothing is sent to anybody: what its permit asks for binds nobody
            asked = binding(judgement.decision, judgement.outcome)
            make_duties(tx, self._services.site, record, asked, at=format_time(tx.now))

    def _record(self, tx: Transaction, identity: SpiffeId, request: DeclareRequest) -> TransferRecord:
        known = tx.turn(self._services.site, request.repository, request.tag)
        return TransferRecord(
            id=request.transfer,
            role="origin",
            state="declared",
            state_at=tx.now,
            created_at=tx.now,
            expires_at=tx.now + timedelta(hours=self._services.bounds.transfer_hours),
            origin=self._services.site,
            sender=identity,
            agent=identity,
            lane=request.lane,
            repository=request.repository,
            tag=request.tag,
            kind=request.kind,
            media_type=request.media_type,
            digest=request.digest,
            size=request.size,
            destinations=request.destinations,
            initiator=request.initiator,
            declarations=request.declarations.to_json(),
            previous=None if known is None else known[1],
            turn=1 if known is None else known[0] + 1,
        )

    def _open(
        self,
        tx: Transaction,
        identity: SpiffeId,
        request: DeclareRequest,
        bundle: TrustBundle,
        advice: Advice,
        orphans: list[SegmentId],
    ) -> DeclareResponse:
        """Return the open transfer of this identity, lane, repository and tag, or begin one; fill `orphans`.

        `fresh` replaces an open transfer by the one declared here; declared again, that one is the open one.
        """
        record = tx.open_transfer(identity, request.lane, request.repository, request.tag)
        is_another = record is not None and record.id != request.transfer
        if record is not None and is_another and (request.fresh or record.destinations != request.destinations):
            orphans += self._give_up(tx, record)
            record = None
        if record is None:
            record = self._begin(tx, identity, request)
        elif record.waybill_digest is None:
            record = self._follow(tx, record, request)
        if record.id == request.transfer and record.segments_received == 0 and request.resume is not None:
            # The sender learned its bases from the first answer and inherits their lineage: nothing was sealed before.
            tx.put_document(record.id, documents.RESUME, parse_envelope(request.resume).encode())
        resume = tx.document(record.id, documents.RESUME)
        committed = None
        if record.waybill_digest is not None:
            committed = sealed_artifact(tx, record, identity)
        return DeclareResponse(
            transfer=record.id,
            state=record.state,
            advice=advice,
            previous=record.previous,
            turn=record.turn,
            trust_version=bundle.version,
            resume=None if resume is None else documents.envelope_json(resume),
            rows=record.segments_received if record.waybill_digest is None else 0,
            bases=self._bases(tx, identity, record),
            committed=committed,
            expires=format_time(record.expires_at),
        )

    def _begin(self, tx: Transaction, identity: SpiffeId, request: DeclareRequest) -> TransferRecord:
        if tx.transfer(request.transfer) is not None:
            raise Conflict("E-STATE", f"transfer id {request.transfer} is in use", remedy="make a new transfer id")
        if request.resume is None:
            raise CallerError("E-REQUEST", "a new transfer needs its resume keys")
        self._services.reserve.require_room(f"transfer {request.transfer}")
        require_open(tx, self._services.bounds, identity)
        record = self._record(tx, identity, request)
        tx.save_transfer(record)
        tx.put_document(record.id, documents.RESUME, parse_envelope(request.resume).encode())
        _log_declared(tx, record)
        return record

    def _follow(self, tx: Transaction, record: TransferRecord, request: DeclareRequest) -> TransferRecord:
        """Return the unfinished transfer as it is declared now: the tag may have moved on, the source been built again.

        What was sent stays useful: rows say what each segment holds, whatever it was declared as.
        """
        known = tx.turn(record.origin, record.repository, record.tag)
        now = replace(
            record,
            kind=request.kind,
            media_type=request.media_type,
            digest=request.digest,
            size=request.size,
            initiator=request.initiator,
            declarations=request.declarations.to_json(),
            previous=None if known is None else known[1],
            turn=1 if known is None else known[0] + 1,
        )
        if now != record:
            tx.save_transfer(now)
            _log_declared(tx, now)
        return now

    def _give_up(self, tx: Transaction, record: TransferRecord) -> list[SegmentId]:
        """Cancel an unfinished transfer that its sender replaces; one that is committed goes on. Return what nobody needs."""
        if record.waybill_digest is not None or not may(ORIGIN, record.state, "cancel"):
            return []
        tx.save_transfer(replace(record, state=step(ORIGIN, record.state, "cancel"), state_at=tx.now))
        tx.forget_rows(record.id)
        tx.append(EntryType.TRANSFER_ENDED, {"transfer": record.id, "state": "cancelled", "why": "replaced by its sender"})
        return tx.unpin_transfer(record.id)

    def _bases(self, tx: Transaction, identity: SpiffeId, record: TransferRecord) -> tuple[SealedArtifact, ...]:
        """Return earlier artifacts that every destination of this transfer has, newest first."""
        found = []
        for base in tx.bases(identity, record.lane, record.repository, _BASES_OFFERED):
            if base.id == record.id or not set(record.destinations) <= set(base.destinations):
                continue
            sealed = sealed_artifact(tx, base, identity)
            if sealed is not None:
                found.append(sealed)
        return tuple(found)

    async def rows(self, identity: SpiffeId, transfer: TransferId, after: SegmentId | None) -> list[StoredSegment]:
        """Return the next rows of an unfinished transfer of this identity, at most 512, by segment id."""

        def read(tx: Transaction) -> list[StoredSegment]:
            own_transfer(tx, identity, transfer)
            return tx.rows(transfer, after=after, limit=_ROWS_A_PAGE)

        return await self._services.catalog.read(read)

    async def commit(self, identity: SpiffeId, transfer: TransferId, request: CommitRequest) -> CommitResponse:
        """Check and keep what the agent signed; see `Commit.commit`."""
        return await self._commit.commit(identity, transfer, request)

    async def put_segment(
        self,
        identity: SpiffeId,
        transfer: TransferId,
        segment: SegmentId,
        data: bytes | bytearray | memoryview,
        row: bytes | None,
    ) -> bool:
        """Keep one segment and its row durably; return whether it is new. The acknowledgement follows the sync (P4).

        Raises:
            CapacityError: E-LIMIT uncommitted_bytes_max or unfinished_bytes_max; the segment is not kept.
            IntegrityError: E-SEGMENT-CORRUPT if `data` does not hash to `segment`.
            Conflict: E-STATE if the transfer takes no more segments. NotFound: E-TRANSFER-UNKNOWN. NotAuthorised: E-NOT-ALLOWED.
        """
        bounds = self._services.bounds

        def own(tx: Transaction) -> TransferRecord:
            found = own_transfer(tx, identity, transfer)
            # The right that the declaration was judged by may have been taken away, or be over, by now.
            self._services.access.require(tx.identity(identity), "push", found.repository, found.lane)
            return found

        def may_come(tx: Transaction) -> None:
            record = own(tx)
            step(ORIGIN, record.state, "segment")
            require_bytes(tx, bounds, record, len(data))

        if not self._lately.has(identity, transfer):
            await self._services.catalog.read(may_come)
        stored = StoredSegment(id=segment, size=len(data), row=row)

        def keep(tx: Transaction) -> bool:
            current = own(tx)
            state = step(ORIGIN, current.state, "segment")
            if not tx.add_segment(transfer, stored):
                return False
            # Asked again: other segments of the transfer may have come since the first time.
            require_bytes(tx, bounds, current, stored.size)
            if state != current.state:
                tx.save_transfer(replace(current, state=state, state_at=tx.now))
            tx.count_segment(transfer, stored.size)
            return True

        try:
            async with self._services.guard.holding(segment):
                await self._services.store.put_if_absent(segment, data)
                is_new = await self._services.catalog.write(keep)
        except (CapacityError, Conflict, NotAuthorised, NotFound):
            self._lately.forget(identity, transfer)
            await self._services.remove_unneeded([segment])
            raise
        self._lately.remember(identity, transfer)
        return is_new


def _log_declared(tx: Transaction, record: TransferRecord) -> None:
    tx.append(
        EntryType.TRANSFER_DECLARED,
        {
            "transfer": record.id,
            "identity": record.agent,
            "lane": record.lane,
            "repository": record.repository,
            "tag": record.tag,
            "destinations": list(record.destinations),
            "declarations": record.declarations,
        },
    )


def _check_lane(lane: Lane, request: DeclareRequest, services: Services) -> None:
    if lane.origin != services.site:
        raise NotFound("E-LANE-UNKNOWN", f"lane {lane.name} starts at {lane.origin}, this is {services.site}")
    elsewhere = [site for site in request.destinations if site not in lane.destinations]
    if elsewhere:
        known = ", ".join(lane.destinations)
        raise CallerError("E-REQUEST", f"lane {lane.name} goes to {known}, not to {', '.join(elsewhere)}")


def _response(transfer: TransferId, state: str, advice: Advice, bundle: TrustBundle, expires: str) -> DeclareResponse:
    return DeclareResponse(transfer=transfer, state=state, advice=advice, trust_version=bundle.version, expires=expires)
