"""What must hold at every moment, after every recovery and at the end, whatever went wrong.

Each breach is named after the promise or invariant it breaks: P1, P3, P4, P5, P6, P9 of the product, I1 to I9 of the write path.

Rules:      1. what is checked is read from durable state or from what others were told, not from what a process believes
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from agent import pull as agent_pull
from carnet.checkpoint import open_checkpoint
from carnet.decision import Decision, Gate, Outcome
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError
from carnet.flow.opening import NullWriter, open_index, open_parts
from carnet.flow.progress import Progress
from carnet.identifiers import SegmentId, SiteName, Tag, TransferId
from carnet.merkle import tree_root
from carnet.messages import CommitResponse, ForwardResponse, KeyReleaseMessage, SiteMessage, TrustResponse
from carnet.suites import SUITE_1, segment_id
from carnet.tiles import read_nodes
from carnet.transfer import DELIVERY_SETTLED
from gateway import documents
from gateway.catalog.transaction import SqliteTransaction
from gateway.checking import Fault, check_store
from gateway.translog.files import LogFiles
from tests.simulation.network import Request
from tests.simulation.prepared import World
from tests.simulation.site import LOG, STORE, Site

RETRY = "retry when policy permits"
"""What a delivery says that waits for a person, because its key may have left before policy turned stricter."""
_WAITING_ORIGIN = frozenset({"received", "inspecting"})
_WAITING_DESTINATION = frozenset({"released", "inspecting"})
_GONE = frozenset({"cancelled", "expired", "denied", "recalled"})


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


@dataclass
class Invariants:
    """Watches the wire and the sites of one run."""

    world: World
    sites: dict[str, Site]
    note: Callable[[str], None]
    found: list[Violation] = field(default_factory=list)
    acknowledged: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Source, receiver, transfer, segment: the source has the answer."""
    heads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """By site: size and root of every checkpoint that somebody else was given."""
    committed: set[tuple[str, str]] = field(default_factory=set)
    """Site and transfer of every commit that was acknowledged."""
    pulled: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    turns: dict[str, dict[str, int]] = field(default_factory=dict)

    def require(self) -> None:
        """Raise the first breach, if there is one."""
        if self.found:
            raise self.found[0]

    def breach(self, name: str, what: str) -> None:
        self.note(f"BREACH {name} {what}")
        self.found.append(Violation(name, what))

    def is_acknowledged(self, *what: object) -> bool:
        return tuple(map(str, what)) in self.acknowledged

    # on the wire

    def arriving(self, request: Request) -> None:
        """P1, P6: a byte or a key has arrived somewhere else."""
        if request.verb == "forward-put":
            self._require_allowed(request, request.names[0], Gate.OFFER)
        elif request.verb == "message":
            body = SiteMessage.parse(request.body).body
            if isinstance(body, KeyReleaseMessage):
                self._require_allowed(request, request.names[0], Gate.RELEASE)

    def asking(self, request: Request) -> None:
        """P6: whoever has the acknowledgement of a segment does not send it again."""
        if request.verb in {"put", "forward-put"} and self.is_acknowledged(
            request.source, request.to, request.names[0], request.names[1]
        ):
            tx = self._transaction(self.sites[request.to])
            record = None if tx is None else tx.transfer(TransferId(request.names[0]))
            if record is not None and record.state not in _GONE:
                self.breach("P6", f"{request} was acknowledged before")

    def _require_allowed(self, request: Request, transfer: str, gate: Gate) -> None:
        """P1: the decision allows it, and its entry is under a checkpoint that is on the origin's platter."""
        origin = self.sites[request.source]
        tx = self._transaction(origin)
        if tx is None:
            return
        name = TransferId(transfer)
        body, index = (
            tx.document(name, documents.decision_name(gate, SiteName(request.to))),
            tx.document(name, documents.decision_index_name(gate, SiteName(request.to))),
        )
        if body is None or index is None:
            self.breach("P1", f"{request} without a decision")
            return
        size = self._published(origin)
        entry = tx.log_entry(int(index))
        if entry is None:
            self.breach("P1", f"{request} without a log entry")
            return
        decision = Decision.read_unverified(parse_envelope(body))
        if decision.outcome is Outcome.ALLOW and int(index) >= size:
            # A newer decision may be on its way to the log; what left then left under the one before.
            if (transfer, gate, request.to) not in self._allowed:
                self.breach("P1", f"{request} before the decision is under a durable checkpoint")
        elif decision.outcome is Outcome.ALLOW:
            self._allowed.add((transfer, gate, request.to))
        elif (transfer, gate, request.to) not in self._allowed and not self._was_allowed(tx, transfer, gate, size):
            self.breach("P1", f"{request} although it was never allowed")

    _allowed: set[tuple[str, Gate, str]] = field(default_factory=set)

    def _was_allowed(self, tx: SqliteTransaction, transfer: str, gate: Gate, size: int) -> bool:
        """Tell whether several decisions at `gate` about the transfer are under the checkpoint: one before may have allowed."""
        kind = {Gate.OFFER: EntryType.DECISION_OFFER, Gate.RELEASE: EntryType.DECISION_RELEASE}[gate]
        return len([one for one in _entries(tx, size) if one == (kind.value, transfer)]) > 1

    def answered(self, request: Request, answer: bytes) -> None:
        """What somebody was told must stay true."""
        if request.verb in {"put", "forward-put"}:
            self.acknowledged.add((request.source, request.to, request.names[0], request.names[1]))
        elif request.verb == "commit":
            self._committed(request, is_whole=not CommitResponse.parse(answer).missing)
        elif request.verb == "forward-commit":
            self._committed(request, is_whole=ForwardResponse.parse(answer).receipt is not None)
        elif request.verb == "trust":
            self._head(request.to, TrustResponse.parse(answer).checkpoints.get(SiteName(request.to)))
        elif request.verb == "log" and request.names[0] == "checkpoint":
            self._head(request.to, answer.decode())

    def _committed(self, request: Request, *, is_whole: bool) -> None:
        if is_whole:
            self.committed.add((request.to, request.names[0]))

    def _head(self, site: str, note: str | None) -> None:
        if note is None:
            return
        prepared = self.world.sites[site]
        head = open_checkpoint(note.encode(), origin=prepared.settings.log_origin, key=prepared.keyring.signing.public)
        known = self.heads.setdefault(site, {})
        if known.setdefault(head.size, head.root) != head.root:
            self.breach("I3", f"{site} signed two trees of {head.size} entries")

    def rows(self, transfer: TransferId, there: set[SegmentId]) -> None:
        """P4, P6: what was acknowledged to the agent, its site knows when it asks to resume."""
        told = {one for source, to, name, one in self.acknowledged if (source, to, name) == ("agent", "us", transfer)}
        sealed = next(push for push in self.world.pushes.values() if push.transfer == transfer)
        lost = {one for one in told - there if sealed.segments[SegmentId(one)][1] is not None}
        tx = self._transaction(self.sites["us"])
        record = None if tx is None else tx.transfer(transfer)
        if lost and record is not None and record.waybill_digest is None and record.state not in _GONE:
            self.breach("I1", f"us acknowledged {len(lost)} segments of {transfer} and does not know them any more")

    # after a recovery, and at the end

    async def after_recovery(self, site: Site) -> None:
        """Look at a site once in each of its lives, when it serves."""
        if self.checked.get(site.name) == site.lives:
            return
        self.checked[site.name] = site.lives
        self.look_at_segments(site)
        self._look_at_log(site)
        self._look_at_commits(site)
        self._look_at_turns(site)

    def look_at_segments(self, site: Site) -> None:
        """I1, P3: every segment that the catalog has is in the store, and is what its id says."""
        tx = self._transaction(site)
        if tx is None:
            return
        for stored in tx.stored_segments(after=None, limit=10_000):
            path = STORE / stored.id[3:5] / stored.id
            try:
                data = site.disk.read(path)
            except FileNotFoundError:
                self.breach("I1", f"{site.name} lost segment {stored.id[:12]}")
                continue
            if len(data) != stored.size or segment_id(SUITE_1, data) != stored.id:
                self.breach("I1", f"{site.name} has segment {stored.id[:12]} with other bytes")
        for source, to, transfer, segment in sorted(self.acknowledged):
            if to != site.name or source == "consumer":
                continue
            record = tx.transfer(TransferId(transfer))
            if record is None:
                self.breach("I1", f"{to} acknowledged segments of {transfer[-4:]} and does not know it")
            elif record.state not in _GONE and SegmentId(segment) not in tx.segments_of(record.id):
                self.breach("I1", f"{to} acknowledged {segment[:12]} of {transfer[-4:]}, which is {record.state}, and lost it")

    def _look_at_log(self, site: Site) -> None:
        """I3, I4, P5: the log extends every head that anyone was shown."""
        tx = self._transaction(site)
        if tx is None:
            return
        files = LogFiles(LOG, disk=site.disk)
        size = self._published(site, seen=True)
        if tx.log_size() < size:
            self.breach("I4", f"{site.name} published {size} entries and has {tx.log_size()}")
            return
        nodes = read_nodes(size, files.tile)
        for old, root in self.heads.get(site.name, {}).items():
            if old > size or tree_root(old, nodes) != root:
                self.breach("I3", f"the log of {site.name}, of {size} entries, does not extend its head of {old}")

    def _look_at_commits(self, site: Site) -> None:
        """P4: a commit that was acknowledged is known."""
        tx = self._transaction(site)
        for name, transfer in sorted(self.committed):
            record = None if tx is None else tx.transfer(TransferId(transfer))
            if tx is not None and name == site.name and (record is None or record.state in {"declared", "receiving"}):
                self.breach("P4", f"{name} acknowledged the commit of {transfer[-4:]} and forgot it")

    def _look_at_turns(self, site: Site) -> None:
        """I9: no turn is lower than before."""
        tx = self._transaction(site)
        known = self.turns.setdefault(site.name, {})
        for push in self.world.pushes.values():
            turn = None if tx is None else tx.turn(SiteName("us"), push.request.repository, push.request.tag)
            before = known.get(push.request.tag, 0)
            now = before if turn is None else turn[0]
            if now < before or (turn is None and tx is not None and before):
                self.breach("I9", f"the turn of {push.request.tag} at {site.name} went from {before} to {now}")
            known[push.request.tag] = now

    async def at_the_end(self) -> None:
        """Everything, once it is quiet."""
        for site in self.sites.values():
            if not site.is_up:
                self.breach("termination", f"{site.name} is not up")
                continue
            self.look_at_segments(site)
            self._look_at_log(site)
            self._look_at_commits(site)
            self._look_at_turns(site)
            self._look_at_states(site)
            async for finding in check_store(site.services.catalog, site.services.store, read_data=False):
                if finding.fault is not Fault.UNKNOWN:
                    self.breach("I7", f"{site.name}: {finding}")
            if site.disk.names(STORE / "incoming"):
                self.breach("I6", f"{site.name} keeps {site.disk.names(STORE / 'incoming')}")
        self._look_at_both_ends()

    def _look_at_states(self, site: Site) -> None:
        """P1, P5, I2: each state has its entry, each transfer at a destination an offer that is its own."""
        tx = self._transaction(site)
        if tx is None:
            return
        entries = set(_entries(tx, tx.log_size()))
        for record in tx.transfers(limit=100):
            needs = [EntryType.TRANSFER_DECLARED]
            if record.role == "destination":
                needs += [EntryType.RECEIPT_STORED] if record.state in {"stored", "released", "delivered"} else []
                needs += [EntryType.RECEIPT_DELIVERED] if record.state == "delivered" else []
                offer = tx.document(record.id, documents.decision_name(Gate.OFFER, SiteName(site.name)))
                decision = None if offer is None else Decision.read_unverified(parse_envelope(offer))
                about = None if decision is None else (decision.transfer, decision.destination, decision.outcome)
                if about != (record.id, site.name, Outcome.ALLOW):
                    self.breach("P1", f"{site.name} took {record.id[-4:]} without an offer for it")
            lacking = [kind for kind in needs if (kind.value, record.id) not in entries]
            if lacking and record.waybill_digest is not None:
                self.breach("P5", f"{record.id[-4:]} is {record.state} at {site.name} without {lacking[0].value}")
            artifact = tx.artifact(record.repository, record.tag)
            if artifact is not None and (EntryType.RECEIPT_DELIVERED.value, artifact.transfer) not in entries:
                self.breach("I2", f"{record.repository}:{record.tag} is visible at {site.name} without an entry")

    def _look_at_both_ends(self) -> None:
        """I5: both ends tell the same."""
        us = self._transaction(self.sites["us"])
        if us is None:
            return
        for push in self.world.pushes.values():
            for delivery in us.deliveries(push.transfer):
                there = self._transaction(self.sites[delivery.destination])
                record = None if there is None else there.transfer(push.transfer)
                state = None if record is None else record.state
                if delivery.state == "delivered" and state not in {"delivered", "recalled"}:
                    self.breach("I5", f"{push.transfer[-4:]} is delivered says us, {state} says {delivery.destination}")
                if state == "delivered" and delivery.state not in {"delivered", "recalled"}:
                    self.breach("I5", f"{push.transfer[-4:]} is delivered at {delivery.destination}, {delivery.state} says us")

    # what waits

    def unsettled(self) -> str:
        """Return what waits for a machine, or nothing."""
        for site in self.sites.values():
            tx = self._transaction(site)
            if tx is None or not site.is_up:
                return f"{site.name} is down"
            for record in tx.transfers(limit=100):
                if record.role == "origin" and record.state in _WAITING_ORIGIN:
                    return f"{record.id[-4:]} {record.state} at {site.name}"
                if record.role == "destination" and record.state in _WAITING_DESTINATION:
                    return f"{record.id[-4:]} {record.state} at {site.name}"
                for delivery in tx.deliveries(record.id) if record.state == "admitted" else []:
                    if delivery.state not in DELIVERY_SETTLED:
                        return f"{record.id[-4:]} to {delivery.destination}: {delivery.state}: {delivery.error}"
            jobs = [one for one in tx.tally_jobs() if one.kind != "review"]
            if jobs:
                return f"jobs at {site.name}: {jobs}"
        return ""

    def for_a_person(self) -> list[TransferId]:
        """Return the transfers of us that say they wait until somebody retries them."""
        tx = self._transaction(self.sites["us"])
        records = [] if tx is None else tx.transfers(limit=100)
        return [
            record.id
            for record in records
            if tx is not None
            and record.role == "origin"
            and any(one.state == "released" and RETRY in (one.error or "") for one in tx.deliveries(record.id))
        ]

    def waiting(self) -> str:
        return self.unsettled()

    def ended(self) -> dict[str, str]:
        """Return where each transfer ended at its origin."""
        tx = self._transaction(self.sites["us"])
        found = {}
        for name, push in self.world.pushes.items():
            record = None if tx is None else tx.transfer(push.transfer)
            if tx is not None and record is not None:
                found[name] = " ".join([record.state, *(one.state for one in tx.deliveries(push.transfer))])
        return found

    async def pull(self, session: Any, client: Any, repository: Any, tag: str) -> None:
        """P3: what a consumer gets is whole and verifies, or it gets nothing."""
        release = await client.artifact_release(repository, Tag(tag))
        from dataclasses import replace

        session = replace(session, client=client)
        try:
            with mock.patch.object(agent_pull, "now", self.sites[session.site].clock.now):
                granted = agent_pull.verify_release(session, release)
            self.pulled += 1
            index = await open_index(
                [page.id for page in granted.packing.index],
                client.segment,
                suite=granted.packing.suite,
                artifact_key=granted.artifact_key,
                transfer=granted.packing.transfer,
                closure=granted.waybill.closure,
                segments=granted.segments.count,
                size=granted.waybill.size,
            )
            await open_parts(
                index, client.segment, suite=granted.packing.suite, writer_of=lambda _part: NullWriter(), progress=Progress()
            )
        except CarnetError as error:
            if error.code in {"E-DIGEST", "E-SEGMENT-CORRUPT", "E-INDEX", "E-SIGNATURE", "E-PROOF"}:
                self.breach("P3", f"{session.site} served {repository}:{tag}, which does not verify: {error}")
            raise

    def _published(self, site: Site, *, seen: bool = False) -> int:
        """Return the size of the checkpoint on the platter, or that readers see."""
        note = site.read_log("checkpoint") if seen else site.disk.durable(LOG / "checkpoint")
        return 0 if note is None else int(note.decode().split("\n")[1])

    def _transaction(self, site: Site) -> SqliteTransaction | None:
        """Return a view of the committed state; None while a process is between two lives."""
        connection = site._connection
        if connection is None or not site.process.alive:
            return None
        return SqliteTransaction(connection, site.clock.now(), site.prepared.seal)


def _entries(tx: SqliteTransaction, size: int) -> list[tuple[str, str]]:
    """Return type and transfer of the log's first entries."""
    found = []
    for number in range(size):
        entry = tx.log_entry(number)
        if entry is not None:
            from carnet.entries import parse_entry

            opening = entry.openings.get("transfer")
            found.append((parse_entry(entry.entry).type.value, "" if opening is None else str(opening.value)))
    return found
