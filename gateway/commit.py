"""The agent's commit: checks the signed documents against the declaration, then makes the transfer `received`, durably.

Order: (1) signatures; (2) the waybill is the declaration's; (3) the packing list seals that waybill, for the right sites, by the
right sealer, over bases that the base rule allows; (4) every segment is here, introduced by this transfer or by a named base;
(5) the releases are for exactly the recipients that need one, and ours opens to the committed key; (6) one transaction keeps
the documents, pins the segments, destroys the rows, logs, and queues the inspection. Before (6) nothing has changed.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from carnet.encoding import decode_base64
from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import Conflict, NotAuthorised, PeerError
from carnet.identifiers import SegmentId, SpiffeId, TransferId
from carnet.lane_mode import keyholders
from carnet.limits import MISSING_MAX
from carnet.messages import CommitRequest, CommitResponse
from carnet.packing import PackingList, SegmentList
from carnet.release import KeyRelease, open_release, site_recipient
from carnet.timestamps import parse_time
from carnet.transfer import ORIGIN, step
from carnet.trust import TrustBundle, open_agent_statement
from carnet.waybill import Declarations, Waybill
from gateway import documents
from gateway.ownership import own_transfer
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, TransferRecord
from gateway.services import Services

_CLOCK_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class _Signed:
    """The agent's documents after their signatures were verified."""

    waybill: Waybill
    waybill_envelope: Envelope
    packing: PackingList
    packing_envelope: Envelope
    segments: SegmentList
    releases: tuple[KeyRelease, ...]
    agent_statement: bytes


class Commit:
    """Ends an agent's sending."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def commit(self, identity: SpiffeId, transfer: TransferId, request: CommitRequest) -> CommitResponse:
        """Check and keep what the agent signed; return the new state, or what is still missing (then nothing changed).

        Idempotent for the same waybill. Raises `IntegrityError` for what does not verify, `PeerError` E-REQUEST for documents
        that contradict the declaration or each other, `Conflict` E-STATE when the tag moved on at this site meanwhile.
        """
        services = self._services
        bundle = services.trust.ground()
        signed = await services.catalog.read(lambda tx: self._verify(tx, identity, transfer, request, bundle))
        if isinstance(signed, CommitResponse):
            return signed
        self._check_releases(signed, identity, bundle)
        sealed_key = self._unwrap(signed, transfer)
        return await services.catalog.write(lambda tx: self._keep(tx, identity, transfer, signed, sealed_key))

    def _unwrap(self, signed: _Signed, transfer: TransferId) -> bytes | None:
        """Return the artifact key under the at-rest key, or None on a sealed lane: none of the releases is for this site."""
        services = self._services
        for own in signed.releases:
            if own.recipient == services.identity:
                private = services.keyring.kem(own.key_number)
                return services.keyring.seal(open_release(own, signed.packing, private, recipient=own.recipient), transfer.raw)
        return None

    def _verify(
        self, tx: Transaction, identity: SpiffeId, transfer: TransferId, request: CommitRequest, bundle: TrustBundle
    ) -> "_Signed | CommitResponse":
        """Steps (1) to (3); a repeated commit is answered at once."""
        record = own_transfer(tx, identity, transfer)
        who = tx.identity(identity)
        if who is None or who.statement is None:
            raise NotAuthorised("E-NOT-ENROLLED", f"{identity.name} has no agent statement at this site")
        self._services.access.require(who, "push", record.repository, record.lane)
        statement = open_agent_statement(parse_envelope(who.statement), bundle)
        if not statement.is_valid_at(tx.now):
            raise NotAuthorised("E-CERTIFICATE", f"the site's statement about {identity.name} is out of date")
        self._services.trust.revocations.state.require_agent(statement)
        envelope = parse_envelope(request.waybill)
        waybill = Waybill.open(envelope, [statement.signing_key])
        if record.waybill_digest is not None:
            if waybill.digest == record.waybill_digest:
                return CommitResponse(state=record.state)
            raise Conflict("E-STATE", f"transfer {transfer} was committed with another waybill")
        step(ORIGIN, record.state, "commit")
        packing_envelope = parse_envelope(request.packing_list)
        packing = PackingList.open(packing_envelope, [statement.signing_key])
        segments = SegmentList.parse(decode_base64(request.segment_list))
        packing.check_segments(segments)
        self._check_waybill(waybill, record, bundle)
        self._check_packing(tx, packing, waybill, record, bundle)
        return _Signed(waybill, envelope, packing, packing_envelope, segments, request.releases, who.statement)

    def _check_waybill(self, waybill: Waybill, record: TransferRecord, bundle: TrustBundle) -> None:
        """Step (2): the waybill equals the declaration; digest and size bind if they were declared."""
        now = self._services.clock.now()
        expected = {
            "transfer": record.id,
            "repository": record.repository,
            "tag": record.tag,
            "kind": record.kind,
            "media_type": record.media_type,
            "lane": record.lane,
            "destinations": record.destinations,
            "declarations": Declarations.model_validate(record.declarations),
            "previous": record.previous,
            "turn": record.turn,
        }
        for name, value in expected.items():
            if getattr(waybill, name) != value:
                raise PeerError("E-REQUEST", f"waybill of {record.id}: {name} differs from the declaration")
        if (waybill.origin.site, waybill.origin.agent, waybill.origin.initiator) != (
            record.origin,
            record.agent,
            record.initiator,
        ):
            raise PeerError("E-REQUEST", f"waybill of {record.id}: origin differs from the declaration")
        if record.digest not in {None, waybill.artifact}:
            raise PeerError("E-REQUEST", f"waybill of {record.id}: artifact {waybill.artifact}, declared {record.digest}")
        if parse_time(waybill.not_after) <= now or parse_time(waybill.at) > now + _CLOCK_AHEAD:
            raise PeerError("E-CLOCK", f"waybill of {record.id} is valid from {waybill.at} to {waybill.not_after}, not now")
        if waybill.trust_version > bundle.version:
            newer, here = waybill.trust_version, bundle.version
            raise PeerError("E-TRUST", f"waybill of {record.id} rests on trust bundle {newer}, here is {here}")

    def _check_packing(
        self, tx: Transaction, packing: PackingList, waybill: Waybill, record: TransferRecord, bundle: TrustBundle
    ) -> None:
        """Step (3), with the base rule: each base is delivered wherever this artifact goes, and its key still exists here."""
        lane = bundle.lane(record.lane, self._services.site)
        sites = keyholders(lane, record.destinations)
        if (packing.transfer, packing.waybill, packing.sealer) != (record.id, waybill.digest, record.agent):
            raise PeerError("E-REQUEST", f"packing list of {record.id} is about another transfer, waybill or sealer")
        if packing.suite not in lane.suites:
            raise PeerError("E-REQUEST", f"suite {packing.suite} is not allowed on lane {lane.name}")
        if set(packing.sites) != set(sites):
            mode, goes = lane.mode.value, ", ".join(packing.sites)
            problem = f"packing list of {record.id} goes to {goes}; {lane.name} is {mode}: expected {', '.join(sites)}"
            raise PeerError("E-LANE-MODE" if lane.origin in {*packing.sites} ^ {*sites} else "E-REQUEST", problem)
        for digest in packing.bases:
            base = tx.transfer_of_packing(digest)
            if base is not None and (base.repository, base.lane) != (record.repository, record.lane):
                raise PeerError("E-BASE", f"base {base.repository} on lane {base.lane} is not of this repository and lane")
            if base is None or base.role != "origin" or base.sender != record.sender or not _is_here(tx, base, packing):
                raise PeerError("E-BASE", f"base {digest} is not an artifact of yours that is still here")
            reached = {delivery.destination for delivery in tx.deliveries(base.id) if delivery.state == "delivered"}
            if base.state != "admitted" or not set(record.destinations) <= reached:
                name = f"{base.repository}:{base.tag}"
                raise PeerError("E-BASE", f"base {name} is not delivered to every destination of {record.id}")

    def _check_releases(self, signed: _Signed, identity: SpiffeId, bundle: TrustBundle) -> None:
        """Step (5): exactly the sites of the packing list and the sealer itself hold a key."""
        needed = {site_recipient(bundle.trust_domain, site) for site in signed.packing.sites} | {identity}
        recipients = [release.recipient for release in signed.releases]
        if len(recipients) != len(set(recipients)) or set(recipients) != needed:
            raise PeerError("E-REQUEST", f"key releases for {sorted(recipients)}, expected {sorted(needed)}")

    def _keep(
        self, tx: Transaction, identity: SpiffeId, transfer: TransferId, signed: _Signed, sealed_key: bytes | None
    ) -> CommitResponse:
        """Steps (4) and (6), in one transaction."""
        record = own_transfer(tx, identity, transfer)
        if record.waybill_digest == signed.waybill.digest:
            return CommitResponse(state=record.state)
        state = step(ORIGIN, record.state, "commit")
        known = tx.turn(record.origin, record.repository, record.tag)
        if (None if known is None else known[1]) != record.previous:
            raise Conflict(
                "E-STATE",
                f"{record.repository}:{record.tag} moved on at this site since {transfer} was declared",
                remedy="push again: the new waybill will follow the current one",
            )
        missing = _missing(tx, transfer, signed)
        if missing:
            return CommitResponse(state=record.state, missing=tuple(missing[:MISSING_MAX]))
        _put_documents(tx, transfer, signed)
        if sealed_key is not None:
            tx.put_artifact_key(transfer, sealed_key)
        tx.pin_segments(transfer, (entry.id for entry in signed.segments))
        tx.forget_rows(transfer)
        tx.save_turn(record.origin, record.repository, record.tag, record.turn, signed.waybill.digest)
        tx.save_transfer(
            replace(
                record,
                state=state,
                state_at=tx.now,
                digest=signed.waybill.artifact,
                size=signed.waybill.size,
                waybill_digest=signed.waybill.digest,
                expires_at=parse_time(signed.waybill.not_after),
                packing_digest=signed.packing.digest,
                segments=signed.segments.count + len(signed.packing.index),
            )
        )
        for destination in record.destinations:
            tx.save_delivery(DeliveryRecord(transfer=transfer, destination=destination, state="waiting", state_at=tx.now))
        tx.append(
            EntryType.TRANSFER_RECEIVED,
            {
                "transfer": transfer,
                "waybill": signed.waybill.digest,
                "packing": signed.packing.digest,
                "artifact": signed.waybill.artifact,
                "segments": signed.packing.segments.to_json(),
            },
        )
        tx.queue_job("admit", transfer)
        return CommitResponse(state=state)


def _is_here(tx: Transaction, base: TransferRecord, packing: PackingList) -> bool:
    """Tell whether a base still has its keys here, and was sealed for the same mode: a site gets no key by a reference."""
    kept = tx.document(base.id, documents.release_name(packing.sealer)) is not None
    opened = base.origin in documents.read_packing(tx, base.id).sites
    is_same_mode = opened == (base.origin in packing.sites)
    return is_same_mode and (tx.artifact_key(base.id) is not None if opened else kept)


def _missing(tx: Transaction, transfer: TransferId, signed: _Signed) -> list[SegmentId]:
    """Return what is not durable here, or is here but neither this transfer's nor a named base's (step 4).

    Raises:
        PeerError: E-REQUEST for a segment that is here with another size than the agent signed.
    """
    allowed = tx.segments_of(transfer)
    for digest in signed.packing.bases:
        base = tx.transfer_of_packing(digest)
        if base is not None:
            allowed |= tx.segments_of(base.id)
    listed = {SegmentId(segment): size for segment, size in documents.segments_to_hold(signed.packing, signed.segments)}
    sizes = tx.segment_sizes(listed)
    for segment, size in sizes.items():
        if segment in allowed and listed[segment] != size:
            raise PeerError("E-REQUEST", f"segment {segment} has {size} bytes, the signed list says {listed[segment]}")
    return [segment for segment in listed if segment not in sizes or segment not in allowed]


def _put_documents(tx: Transaction, transfer: TransferId, signed: _Signed) -> None:
    tx.put_document(transfer, documents.WAYBILL, signed.waybill_envelope.encode())
    tx.put_document(transfer, documents.PACKING_LIST, signed.packing_envelope.encode())
    tx.put_document(transfer, documents.SEGMENT_LIST, signed.segments.encode())
    tx.put_document(transfer, documents.AGENT_STATEMENT, signed.agent_statement)
    for release in signed.releases:
        tx.put_document(transfer, documents.release_name(release.recipient), release.encode())
    tx.delete_document(transfer, documents.RESUME)
