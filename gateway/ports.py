"""What the use cases need from the world, each with its guarantees in words; adapters keep them, contract tests check them.

Durability, order, retry and errors are part of each interface. `Transaction` methods run on the catalog's own threads: they
never await and see one consistent state. A row that gives rights (identities, invites, turns, site documents) is handed out
only as this site wrote it: one that somebody else changed is an `IntegrityError` E-ROW.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from carnet.checkpoint import Checkpoint
from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.identifiers import Digest, LaneName, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.keys import KemPrivateKey, SigningKey
from carnet.proof import EntryProof
from gateway.passage_rows import PassageRows
from gateway.records import (
    ArtifactRecord,
    DeliveryRecord,
    IdentityRecord,
    InviteRecord,
    JobRecord,
    JobTally,
    SegmentUse,
    SegmentWay,
    StoredSegment,
    TransferRecord,
    WaitingDelivery,
)

Result = TypeVar("Result")


class Clock(Protocol):
    """The one source of wall time."""

    def now(self) -> datetime:
        """Return the current time, aware, UTC."""
        ...


class BlobReader(Protocol):
    """Reads stored segments."""

    async def get(self, segment: SegmentId) -> bytes:
        """Return the whole segment; raise `NotFound` E-SEGMENT-UNKNOWN, or `IntegrityError` if its bytes are not its id's."""
        ...

    async def head(self, segment: SegmentId) -> int | None:
        """Return the segment's size in bytes, or None if it is not here."""
        ...


class BlobStore(BlobReader, Protocol):
    """Keeps segments. A put that returned is durable: file and directory are synced. Any sync error ends the process."""

    async def put_if_absent(self, segment: SegmentId, data: bytes | bytearray | memoryview) -> bool:
        """Keep `data` (its hash is checked against the id first: `IntegrityError` E-SEGMENT-CORRUPT); False if already here.

        Idempotent. The buffer may be reused once this returns. Raises `Unavailable` E-DISK-FULL without a trace left.
        """
        ...

    async def delete(self, segment: SegmentId) -> None:
        """Remove the segment; removing what is not there is no error."""
        ...

    def list(self) -> AsyncIterator[SegmentId]:
        """Yield every segment that is here, in no order; what comes and goes meanwhile may or may not show."""
        ...


class StoreFiles(BlobStore, Protocol):
    """A store as whoever counts or tidies it sees it: all that lies in it, somebody's or not."""

    def shards(self) -> AsyncIterator[Mapping[SegmentId, int]]:
        """Yield the sizes in bytes of all segments, a part of the store at a time; what comes and goes may or may not show."""
        ...

    async def leftovers(self) -> Mapping[str, int]:
        """Return temporary files by name, with their sizes in bytes: those that no put through this object is writing."""
        ...

    async def remove_leftover(self, name: str) -> None:
        """Remove one of them; one that is gone is no error. Only for the process that owns the store."""
        ...


class Transaction(PassageRows, Protocol):
    """One consistent view of the catalog; in `Catalog.write`, one atomic change of it."""

    @property
    def now(self) -> datetime:
        """The time of this transaction."""
        ...

    # transfers and deliveries
    def transfer(self, transfer: TransferId) -> TransferRecord | None:
        """Return the transfer, or None."""
        ...

    def open_transfer(self, sender: SpiffeId, lane: LaneName, repository: Repository, tag: Tag) -> TransferRecord | None:
        """Return the newest origin transfer of these four that is `declared` or `receiving`, or committed and undelivered."""
        ...

    def transfers(
        self, *, sender: SpiffeId | None = None, states: Sequence[str] = (), limit: int = 100, before: str | None = None
    ) -> list[TransferRecord]:
        """Return transfers, newest first; `before` is the cursor `created_at|id` of the last one seen."""
        ...

    def transfers_of_artifact(self, digest: Digest, *, limit: int) -> list[TransferRecord]:
        """Return the transfers of this artifact, newest first."""
        ...

    def transfers_named(self, repository: Repository, tag: Tag, *, limit: int) -> list[TransferRecord]:
        """Return the transfers of this name, newest first."""
        ...

    def overdue(self, *, limit: int) -> list[TransferRecord]:
        """Return transfers whose time is over at `now` and of which something still waits, longest first."""
        ...

    def save_transfer(self, record: TransferRecord) -> None:
        """Insert or replace the transfer's row."""
        ...

    def count_segment(self, transfer: TransferId, size: int) -> None:
        """Add one segment of `size` bytes to the transfer's received counters."""
        ...

    def deliveries(self, transfer: TransferId) -> list[DeliveryRecord]:
        """Return the deliveries of a transfer, by destination name."""
        ...

    def save_delivery(self, record: DeliveryRecord) -> None:
        """Insert or replace the delivery's row."""
        ...

    # documents: bytes by name, beside a transfer or beside the site
    def put_document(self, transfer: TransferId, name: str, body: bytes) -> None:
        """Keep `body` under the transfer and `name`, replacing what was there."""
        ...

    def document(self, transfer: TransferId, name: str) -> bytes | None:
        """Return the document, or None."""
        ...

    def documents(self, transfer: TransferId, prefix: str) -> dict[str, bytes]:
        """Return the transfer's documents whose names start with `prefix`."""
        ...

    def delete_document(self, transfer: TransferId, name: str) -> None:
        """Forget the document, if there is one."""
        ...

    def put_site_document(self, name: str, body: bytes) -> None:
        """Keep `body` under `name` for the site, replacing what was there."""
        ...

    def site_document(self, name: str) -> bytes | None:
        """Return the site's document, or None."""
        ...

    def site_documents(self, prefix: str, *, limit: int | None = None) -> dict[str, bytes]:
        """Return the site's documents whose names start with `prefix`, in the order of their names: `limit` of them at most."""
        ...

    def delete_site_document(self, name: str) -> None:
        """Forget the site's document, if there is one."""
        ...

    # keys at rest
    def put_artifact_key(self, transfer: TransferId, sealed: bytes) -> None:
        """Keep the artifact key of a transfer, sealed under the at-rest key."""
        ...

    def artifact_key(self, transfer: TransferId) -> bytes | None:
        """Return the sealed artifact key, or None."""
        ...

    def delete_artifact_key(self, transfer: TransferId) -> None:
        """Destroy the sealed artifact key."""
        ...

    # segments
    def add_segment(self, transfer: TransferId, segment: StoredSegment) -> bool:
        """Record a durable segment for the transfer (with its row); False if the transfer had it."""
        ...

    def pin_segments(self, transfer: TransferId, segments: Iterable[SegmentId]) -> None:
        """Record that the transfer needs these segments, which are durable here."""
        ...

    def missing_segments(self, segments: Iterable[SegmentId]) -> list[SegmentId]:
        """Return those that are not durable here, in the order given."""
        ...

    def unreferred_segments(self, segments: Iterable[SegmentId]) -> list[SegmentId]:
        """Return those that no row refers to, in the order given: not durable here, of no transfer, held for no passage."""
        ...

    def segment_sizes(self, segments: Iterable[SegmentId], *, sender: SpiffeId | None = None) -> dict[SegmentId, int]:
        """Return the sealed sizes of those that are durable here; with `sender`, only of those that a transfer of its own has."""
        ...

    def segments_of(self, transfer: TransferId) -> set[SegmentId]:
        """Return the segments that the transfer introduced or pinned."""
        ...

    def stored_segments(self, *, after: SegmentId | None, limit: int) -> list[StoredSegment]:
        """Return all durable segments by id, a page after `after`, without rows."""
        ...

    def transfers_with(self, segment: SegmentId, limit: int) -> list[TransferId]:
        """Return transfers that need the segment, at most `limit`."""
        ...

    def rows(self, transfer: TransferId, *, after: SegmentId | None, limit: int) -> list[StoredSegment]:
        """Return the transfer's segments that have rows, by id, after `after`."""
        ...

    def forget_rows(self, transfer: TransferId) -> None:
        """Destroy the transfer's rows."""
        ...

    def ways_to_segment(self, identity: SpiffeId, segment: SegmentId, *, limit: int) -> list[SegmentWay]:
        """Return how `identity` comes to the segment: by transfers of its own, and by what was released to it; each way once."""
        ...

    def add_reader(self, transfer: TransferId, identity: SpiffeId) -> None:
        """Let `identity` read the transfer's segments from now on."""
        ...

    def readers(self, transfer: TransferId) -> int:
        """Return how many identities the transfer was released to."""
        ...

    def recalled_to(self, identity: SpiffeId, *, limit: int) -> list[TransferId]:
        """Return transfers that were released to `identity` and are `recalled`."""
        ...

    def sharers(self, transfer: TransferId) -> int:
        """Return how many other transfers need a segment of this one."""
        ...

    def unpin_transfer(self, transfer: TransferId) -> list[SegmentId]:
        """Drop the transfer's claims; return and forget the segments that no other transfer needs (to delete them)."""
        ...

    # artifacts
    def artifact(self, repository: Repository, tag: Tag) -> ArtifactRecord | None:
        """Return what the tag points to, or None."""
        ...

    def artifacts(
        self, *, limit: int = 100, after: str | None = None, repository: str | None = None, beginning: str = ""
    ) -> list[ArtifactRecord]:
        """Return artifacts by `repository:tag`, of repositories that begin so; `after` is the last one seen."""
        ...

    def save_artifact(self, record: ArtifactRecord) -> None:
        """Point the tag to the artifact."""
        ...

    def remove_artifact(self, repository: Repository, tag: Tag) -> None:
        """Remove the tag, if there is one."""
        ...

    def artifact_users(self, transfer: TransferId) -> int:
        """Return how many tags point to the transfer."""
        ...

    def bases(self, sender: SpiffeId, lane: LaneName, repository: Repository, limit: int) -> list[TransferRecord]:
        """Return the newest origin transfers of these three that are admitted with every delivery `delivered`."""
        ...

    def transfer_of_packing(self, packing: Digest) -> TransferRecord | None:
        """Return the transfer whose packing list has this digest, or None."""
        ...

    def turn(self, origin: SiteName, repository: Repository, tag: Tag) -> tuple[int, Digest] | None:
        """Return turn and waybill digest of the last waybill accepted for this tag from this origin, or None."""
        ...

    def save_turn(self, origin: SiteName, repository: Repository, tag: Tag, turn: int, waybill: Digest) -> None:
        """Remember the last waybill accepted for a tag; a lower turn than the one kept is an `IntegrityError` E-ROLLBACK."""
        ...

    # identities
    def identity(self, identity: SpiffeId) -> IdentityRecord | None:
        """Return who this is, or None."""
        ...

    def identities(self) -> list[IdentityRecord]:
        """Return all identities by name."""
        ...

    def save_identity(self, record: IdentityRecord) -> None:
        """Insert or replace an identity."""
        ...

    def invite(self, invite: str) -> InviteRecord | None:
        """Return the invite, used or not, or None."""
        ...

    def open_invites(self, identity: SpiffeId) -> list[InviteRecord]:
        """Return the invites of an identity that were not used."""
        ...

    def save_invite(self, record: InviteRecord) -> None:
        """Insert or replace an invite."""
        ...

    # work and log
    def queue_job(self, kind: str, key: str, *, delay_s: float = 0.0) -> None:
        """Queue background work; a job of the same kind and key that is not yet done absorbs this one (and runs again)."""
        ...

    def append(self, kind: EntryType, fields: Mapping[str, JsonValue]) -> int:
        """Append an entry to the site's log and return its index; it is under a checkpoint soon after the commit."""
        ...

    def last_entry(self) -> bytes | None:
        """Return the log's newest entry, under a checkpoint or not, or None."""
        ...

    def log_size(self) -> int:
        """Return how many entries there are, under a checkpoint or not."""
        ...

    # for whoever watches the site; these read much, so they are asked seldom
    def count_transfers(self) -> Mapping[str, int]:
        """Return how many transfers are in each state that any is in."""
        ...

    def count_deliveries(self) -> Mapping[str, int]:
        """Return how many deliveries are in each state that any is in."""
        ...

    def tally_jobs(self) -> list[JobTally]:
        """Return what is queued, by kind."""
        ...

    def waiting_deliveries(self, limit: int) -> list[WaitingDelivery]:
        """Return deliveries that wait for a person, a fact or the other site, longest first."""
        ...

    def unfinished_bytes(self, sender: SpiffeId | None = None) -> int:
        """Return the sealed bytes that the unfinished transfers of `sender`, or of all, have brought in."""
        ...

    def tally_segments(self) -> tuple[int, int]:
        """Return how many segments are durable here, and their bytes together."""
        ...

    def segment_uses(self, segments: Iterable[SegmentId]) -> list[SegmentUse]:
        """Return who needs these segments: one for each segment and repository, and one for the passages that hold it."""
        ...


class Catalog(Protocol):
    """The site's memory. A `write` that returned is durable; concurrent writes share one sync."""

    async def write(self, change: Callable[[Transaction], Result]) -> Result:
        """Run `change` in one atomic transaction and return its result after it is durable; if it raises, nothing happened."""
        ...

    async def read(self, question: Callable[[Transaction], Result]) -> Result:
        """Run `question` against one consistent state; it changes nothing."""
        ...


class Awaiting(Exception):
    """The other site's answer is on its way. The job is queued again when it comes, at the latest after `seconds`."""

    def __init__(self, problem: str, seconds: float) -> None:
        """Say in `problem` what is awaited."""
        super().__init__(problem)
        self.seconds = seconds


class JobQueue(Protocol):
    """Leases jobs to workers; a job runs at least once, so handlers are idempotent."""

    async def lease(self, kinds: Sequence[str]) -> JobRecord | None:
        """Lease the job that has been due longest for a minute, or None."""
        ...

    async def renew(self, job: JobRecord) -> bool:
        """Prolong the lease to a minute from now; False if another worker holds the job by now."""
        ...

    async def finish(self, job: JobRecord) -> None:
        """Mark the job done, unless it was queued again meanwhile or another worker holds it."""
        ...

    async def retry(self, job: JobRecord, *, delay_s: float, error: str) -> None:
        """Give the job back, due again after `delay_s` seconds (or earlier, if it was queued meanwhile)."""
        ...

    async def recover(self) -> int:
        """End the leases of a process that is gone, before any worker starts; return how many jobs are due again."""
        ...

    async def next_due(self, kinds: Sequence[str]) -> datetime | None:
        """Return when the next job of these kinds can be leased, perhaps in the past, or None if there is none."""
        ...


class Log(Protocol):
    """The site's append-only log, published as C2SP tiles."""

    @property
    def origin(self) -> str:
        """The log's origin line: `<trust domain>/site/<site>/log`."""
        ...

    async def checkpointed(self, index: int) -> None:
        """Return when the entry is under a durable signed checkpoint."""
        ...

    async def prove(self, index: int, fields: Sequence[str]) -> EntryProof:
        """Return entry, inclusion proof, checkpoint and the openings of `fields`; waits for the checkpoint."""
        ...

    def checkpoint(self) -> tuple[Checkpoint, str]:
        """Return the newest published checkpoint and its signed note."""
        ...


class Keyring(Protocol):
    """The site's secret keys; values never leave it except as results of use."""

    @property
    def signing(self) -> SigningKey:
        """The site's signing key: decisions, receipts, checkpoints, statements."""
        ...

    def kem(self, number: int) -> KemPrivateKey:
        """Return the KEM key with this number; raise `NotFound` if it was destroyed."""
        ...

    def kem_numbers(self) -> Sequence[int]:
        """Return the numbers of the KEM keys held, ascending."""
        ...

    def seal(self, secret: bytes, context: bytes) -> bytes:
        """Return `secret` sealed under the at-rest key, bound to `context`."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the secret; raise `IntegrityError` E-SEGMENT-CORRUPT if sealed bytes or context are not right."""
        ...
