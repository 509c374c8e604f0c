"""Serves what was delivered here: list, show, release to a consumer, segments, delete.

A pull is a `release` decision of this site for that consumer: decided, signed and under a checkpoint before the key is wrapped to
the consumer's own KEM key. Segments are served only to who sent them or was released to.
"""

from collections.abc import Iterator
from datetime import timedelta

from carnet.decision import Gate, Outcome
from carnet.encoding import encode_base64
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import Held, NotAuthorised, NotFound, Refused
from carnet.identifiers import Digest, Repository, SegmentId, SpiffeId, Tag, TransferId
from carnet.messages import ArtifactList, ArtifactRelease, ArtifactView, ReasonView, SignedStep
from carnet.receipt import ReceiptKind
from carnet.release import make_release
from carnet.timestamps import format_time
from carnet.trust import HOME_LANE, AgentStatement, TrustBundle
from carnet.waybill import Waybill
from gateway import documents
from gateway.deciding import Judgement, judge_signer, judge_waybill, record_decision, refused, signed_step
from gateway.ports import Transaction
from gateway.records import ArtifactRecord, IdentityRecord, SegmentWay, TransferRecord
from gateway.services import Services
from gateway.standing import READABLE, is_put_away, judge_pull_again
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger

_RECALLED_MAX = 16
"""How many recalled transfers are looked at to tell why something is not here."""
_WAYS_MAX = 1_000
"""How many artifacts that share a segment are looked at for one that may be pulled."""
_CONSUMER_KEY_NUMBER = 1
"""An agent has one KEM key; its statement names it."""


class Artifacts:
    """Every call names the authenticated identity."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def list(
        self, identity: SpiffeId, *, repository: str | None = None, limit: int = 100, after: str | None = None
    ) -> ArtifactList:
        """Return the artifacts this identity may pull, by name; `after` is the `next` of the page before."""

        def read(tx: Transaction) -> ArtifactList:
            who, found = tx.identity(identity), list[ArtifactRecord]()
            # Who may pull little is not made to wait while everything else is looked at.
            for beginning in self._services.access.beginnings(who, "pull", "home"):
                at = after
                while len(found) <= limit:
                    page = tx.artifacts(limit=limit + 1, after=at, repository=repository, beginning=beginning)
                    found += [record for record in page if self._may(who, "pull", record.repository)]
                    if len(page) <= limit:
                        break
                    at = f"{page[-1].repository}:{page[-1].tag}"
            shown = found[:limit]
            more = f"{shown[-1].repository}:{shown[-1].tag}" if len(found) > limit else None
            return ArtifactList(artifacts=tuple(_view(record) for record in shown), next=more)

        return await self._services.catalog.read(read)

    async def show(self, identity: SpiffeId, repository: Repository, tag: Tag) -> ArtifactView:
        """Return one artifact.

        Raises:
            NotFound: E-ARTIFACT-UNKNOWN if there is none that this identity may pull. Refused: E-RECALLED if there was one.
        """
        return _view(await self._services.catalog.read(lambda tx: self._visible(tx, identity, repository, tag)))

    async def release(self, identity: SpiffeId, repository: Repository, tag: Tag) -> ArtifactRelease:
        """Decide whether this consumer may have the artifact; if so wrap the key to it and return all it needs to check.

        Raises:
            Held: E-HELD, or E-TRUST-EXPIRED. Refused: E-DENIED with `reasons`, or E-RECALLED.
            NotFound: E-ARTIFACT-UNKNOWN. NotAuthorised: E-NOT-ENROLLED for an identity without a KEM key.
        """
        services = self._services
        record, consumer, waybill = await services.catalog.read(lambda tx: self._asked_for(tx, identity, repository, tag))
        grace = timedelta(0) if waybill.declarations.is_controlled else timedelta(hours=services.bounds.pull_grace_hours)
        bundle, expired = services.trust.ground_for_pull(record.origin, grace)
        if expired is not None:
            get_logger().warning(events.PULL_IN_GRACE, artifact=record.digest, identity=identity, expired=expired)
        outcome_reasons = await services.catalog.write(lambda tx: self._decide(tx, record, consumer, bundle))
        outcome, reasons = outcome_reasons
        name = f"{repository}:{tag}"
        if outcome is Outcome.HOLD:
            first = reasons[0]
            held = Held("E-HELD", f"pull of {name} waits: {first.text} (rule {first.rule})", remedy=first.remedy or None)
            held.reasons = reasons
            raise held
        if outcome is not Outcome.ALLOW:
            code = "E-QUARANTINED" if outcome is Outcome.QUARANTINE else "E-DENIED"
            raise refused(f"pull of {name} is not allowed", reasons, code=code)
        step = await signed_step(services, record.transfer, Gate.RELEASE, identity)
        return await services.catalog.write(lambda tx: self._hand_out(tx, record, consumer, step, expired))

    def _asked_for(
        self, tx: Transaction, identity: SpiffeId, repository: Repository, tag: Tag
    ) -> tuple[ArtifactRecord, AgentStatement, Waybill]:
        record = self._visible(tx, identity, repository, tag)
        return record, self._consumer(tx, identity), documents.read_waybill(tx, record.transfer)

    def _decide(
        self, tx: Transaction, record: ArtifactRecord, consumer: AgentStatement, bundle: TrustBundle
    ) -> tuple[Outcome, tuple[ReasonView, ...]]:
        transfer = tx.transfer(record.transfer)
        if transfer is None:
            raise NotFound("E-ARTIFACT-UNKNOWN", f"no artifact {record.repository}:{record.tag} here")
        waybill = documents.read_waybill(tx, record.transfer)
        judgement = judge_waybill(
            tx,
            self._services,
            bundle,
            Gate.RELEASE,
            waybill,
            destination=self._services.site,
            consumer=consumer.identity,
        )
        judgement = judge_signer(tx, self._services, judgement, record.transfer)
        judgement = judge_pull_again(tx, self._services, bundle, judgement, waybill, consumer.identity)
        judgement = self._judge_bases(tx, judgement, record.transfer, consumer.identity, bundle)
        record_decision(
            tx,
            self._services,
            judgement,
            transfer,
            consumer=consumer.identity,
            recipient_key=consumer.kem_key.digest,
        )
        return judgement.outcome, judgement.views

    def _judge_bases(
        self, tx: Transaction, judgement: Judgement, transfer: TransferId, consumer: SpiffeId, bundle: TrustBundle
    ) -> Judgement:
        """Hold what rests on a base that this consumer may not have: the index opens the base's segments too (DESIGN 4.3).

        Until the shared segments are sealed anew for such a reader, the artifact waits.
        """
        services = self._services
        for digest, base in _bases(tx, transfer):
            if base is None:
                text, name = "is not known here", str(digest)
            else:
                name = f"{base.repository}:{base.tag}"
                waybill = documents.read_waybill(tx, base.id)
                found = judge_waybill(tx, services, bundle, Gate.RELEASE, waybill, destination=services.site, consumer=consumer)
                found = judge_pull_again(tx, services, bundle, found, waybill, consumer)
                is_away = is_put_away(tx, services, base)
                if found.outcome is Outcome.ALLOW and not is_away:
                    continue
                why = "it is quarantined here" if is_away else found.views[0].text
                text = f"may not be pulled by this consumer ({why})"
            return judgement.overruled(
                Outcome.HOLD,
                "base",
                f"it is sealed upon {name}, which {text}",
                "push it again with --fresh after that base was deleted, or push it to another repository",
            )
        return judgement

    def _hand_out(
        self, tx: Transaction, record: ArtifactRecord, consumer: AgentStatement, step: SignedStep, expired: str | None
    ) -> ArtifactRelease:
        services, transfer = self._services, record.transfer
        sealed_key, now = tx.artifact_key(transfer), tx.transfer(transfer)
        # Since it was decided it may have been recalled, which destroys the key, or put away, which keeps it.
        if sealed_key is None or now is None or now.state not in READABLE:
            raise self._absent(tx, record.repository, record.tag)
        packing = documents.read_packing(tx, transfer)
        self._refuse_bases_put_away(tx, record)
        release = make_release(
            packing,
            services.keyring.open(sealed_key, transfer.raw),
            recipient=consumer.identity,
            key_number=_CONSUMER_KEY_NUMBER,
            public=consumer.kem_key,
        )
        tx.add_reader(transfer, consumer.identity)
        tx.append(
            EntryType.KEY_RELEASED,
            {"transfer": transfer, "recipient": consumer.identity, "key": consumer.kem_key.digest}
            | ({} if expired is None else {"expired": expired}),
        )
        receipt = documents.need(tx, transfer, documents.receipt_name(ReceiptKind.DELIVERED, services.site))
        return ArtifactRelease(
            artifact=_view(record),
            waybill=documents.envelope_json(documents.need(tx, transfer, documents.WAYBILL)),
            agent_statement=documents.envelope_json(documents.need(tx, transfer, documents.AGENT_STATEMENT)),
            packing_list=documents.envelope_json(documents.need(tx, transfer, documents.PACKING_LIST)),
            segment_list=encode_base64(documents.need(tx, transfer, documents.SEGMENT_LIST)),
            receipt=documents.envelope_json(receipt),
            release=release,
            step=step,
        )

    def _refuse_bases_put_away(self, tx: Transaction, record: ArtifactRecord) -> None:
        """Refuse what is sealed upon something that was put away since it was decided: its index opens that too."""
        for _, base in _bases(tx, record.transfer):
            if base is not None and is_put_away(tx, self._services, base):
                name, upon = f"{record.repository}:{record.tag}", f"{base.repository}:{base.tag}"
                said = f"pull of {name} waits: it is sealed upon {upon}, which is quarantined here (rule base)"
                raise Held("E-HELD", said, remedy="push it again with --fresh after that base was deleted")

    async def segment(self, identity: SpiffeId, segment: SegmentId) -> bytes:
        """Return a segment of an artifact that this identity sent or was released.

        Raises:
            NotAuthorised: E-NOT-ALLOWED for who may not push or pull that artifact any more.
            NotFound: E-SEGMENT-UNKNOWN. Refused: E-RECALLED for one of an artifact that was released to it and then recalled.
        """

        def look(tx: Transaction) -> None:
            if self._may_read(tx, identity, segment):
                return
            for transfer in tx.recalled_to(identity, limit=_RECALLED_MAX):
                if _lists(tx, transfer, segment):
                    raise Refused("E-RECALLED", f"segment {segment} is of transfer {transfer}, which was recalled")
            raise NotFound("E-SEGMENT-UNKNOWN", f"no segment {segment} that you may read")

        await self._services.catalog.read(look)
        return await self._services.store.get(segment)

    async def delete(self, identity: SpiffeId, repository: Repository, tag: Tag) -> None:
        """Remove the tag; when no other tag has the artifact, destroy its key and the segments nobody else needs."""

        def change(tx: Transaction) -> list[SegmentId]:
            record = tx.artifact(repository, tag)
            who = tx.identity(identity)
            self._services.access.refuse_ended(who, "delete", repository, "home")
            if record is None or not (self._may(who, "pull", repository) or self._may(who, "delete", repository)):
                raise NotFound("E-ARTIFACT-UNKNOWN", f"no artifact {repository}:{tag} that you may see")
            self._services.access.require(who, "delete", repository, "home")
            tx.remove_artifact(repository, tag)
            tx.append(
                EntryType.ARTIFACT_DELETED,
                {"repository": repository, "tag": tag, "artifact": record.digest, "transfer": record.transfer, "by": identity},
            )
            if tx.artifact_users(record.transfer):
                return []
            tx.delete_artifact_key(record.transfer)
            for name in tx.documents(record.transfer, "release/"):
                tx.delete_document(record.transfer, name)
            return tx.unpin_transfer(record.transfer)

        await self._services.remove_unneeded(await self._services.catalog.write(change))

    def _may_read(self, tx: Transaction, identity: SpiffeId, segment: SegmentId) -> bool:
        """Tell whether the identity sent, or was released, what has the segment, and may push or pull that still.

        What was released is not given out for good: the right is asked for with each segment, as it is by then.

        Raises:
            NotAuthorised: E-NOT-ALLOWED if all that is missing is the right, so that it was taken away or has ended.
        """
        who, access = tx.identity(identity), self._services.access
        ways: list[SegmentWay] = []
        # Nearly always the first way is good; of a segment that many transfers share, all are looked at only if it is not.
        for limit in (1, _WAYS_MAX):
            ways = tx.ways_to_segment(identity, segment, limit=limit)
            for way in ways:
                if way.is_sent and access.allows(who, "push", way.repository, way.lane):
                    return True
                if way.is_released and self._may(who, "pull", way.repository):
                    return True
        for way in ways[:1]:
            action, lane = ("pull", HOME_LANE) if way.is_released else ("push", way.lane)
            access.require(who, action, way.repository, lane)
        return False

    def _may(self, who: IdentityRecord | None, action: str, repository: str) -> bool:
        return self._services.access.allows(who, action, repository, "home")

    def _visible(self, tx: Transaction, identity: SpiffeId, repository: Repository, tag: Tag) -> ArtifactRecord:
        record, who = tx.artifact(repository, tag), tx.identity(identity)
        if not self._may(who, "pull", repository):
            self._services.access.refuse_ended(who, "pull", repository, "home")
            raise NotFound("E-ARTIFACT-UNKNOWN", f"no artifact {repository}:{tag} that you may see")
        if record is None:
            raise self._absent(tx, repository, tag)
        return record

    def _absent(self, tx: Transaction, repository: Repository, tag: Tag) -> NotFound | Refused:
        """Return the error for a name that points to nothing: perhaps it did until that was recalled, or it went elsewhere."""
        for transfer in tx.transfers_named(repository, tag, limit=_RECALLED_MAX):
            if transfer.state == "recalled" and self._services.site in transfer.destinations:
                why = str(transfer.reasons[0]["text"]) if transfer.reasons else "no reason is kept"
                return Refused("E-RECALLED", f"{repository}:{tag} was recalled: {why}")
            if is_put_away(tx, self._services, transfer):
                why = str(transfer.reasons[0]["text"]) if transfer.reasons else "no reason is kept"
                said = f"{repository}:{tag} was delivered, and is quarantined since: {why}"
                return Refused(
                    "E-QUARANTINED", said, remedy="`carnet transfer retry` decides again about it, by who administers it"
                )
            if transfer.role == "origin" and self._services.site not in transfer.destinations:
                goes = ", ".join(transfer.destinations)
                said = f"{repository}:{tag} went from here to {goes}; it was not sent to be pulled here"
                return NotFound("E-ARTIFACT-UNKNOWN", said, remedy=f"pull it at {goes}, or push it to the home site as well")
        return NotFound("E-ARTIFACT-UNKNOWN", f"no artifact {repository}:{tag} that you may see")

    def _consumer(self, tx: Transaction, identity: SpiffeId) -> AgentStatement:
        who = tx.identity(identity)
        if who is None or who.statement is None:
            raise NotAuthorised(
                "E-NOT-ENROLLED",
                f"{identity.name} has no key of its own to receive an artifact with",
                remedy="pull as an enrolled agent",
            )
        statement = AgentStatement.read_unverified(parse_envelope(who.statement))  # our own, from our catalog
        if not statement.is_valid_at(tx.now):
            raise NotAuthorised("E-CERTIFICATE", f"the site's statement about {identity.name} is out of date")
        self._services.trust.revocations.state.require_agent(statement)
        return statement


def _bases(tx: Transaction, transfer: TransferId) -> Iterator[tuple[Digest, TransferRecord | None]]:
    """Yield what a transfer is sealed upon, and what that is, each once: the packing list, and the transfer if it is here."""
    due, seen = list(documents.read_packing(tx, transfer).bases), set[Digest]()
    while due:
        digest = due.pop()
        if digest in seen:
            continue
        seen.add(digest)
        base = tx.transfer_of_packing(digest)
        yield digest, base
        if base is not None:
            due += documents.read_packing(tx, base.id).bases


def _lists(tx: Transaction, transfer: TransferId, segment: SegmentId) -> bool:
    """Tell whether the segment is one of the transfer's; its list may be long, so it is searched as it lies."""
    pages = documents.read_packing(tx, transfer).index
    return any(page.id == segment for page in pages) or segment.binary in documents.need(tx, transfer, documents.SEGMENT_LIST)


def _view(record: ArtifactRecord) -> ArtifactView:
    return ArtifactView(
        repository=record.repository,
        tag=record.tag,
        digest=record.digest,
        kind=record.kind,
        media_type=record.media_type,
        size=record.size,
        transfer=record.transfer,
        origin=record.origin,
        delivered=format_time(record.delivered_at),
    )
