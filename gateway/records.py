"""What the catalog remembers, as values: one frozen record a noun.

Records carry no behaviour and no secrets in the clear; documents (waybill, receipts, key releases) are kept beside them as
bytes under a name. Times are aware UTC datetimes.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from carnet.encoding import JsonValue
from carnet.identifiers import Digest, LaneName, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId


@dataclass(frozen=True, kw_only=True)
class TransferRecord:
    """A transfer at this site. `role` says which machine of `carnet.transfer` its `state` belongs to."""

    id: TransferId
    role: Literal["origin", "destination"]
    state: str
    state_at: datetime
    created_at: datetime
    expires_at: datetime
    origin: SiteName
    sender: SpiffeId
    """The agent or site that pushes to us on this hop."""
    agent: SpiffeId
    """The originator: at the origin the same as `sender`."""
    lane: LaneName
    repository: Repository
    tag: Tag
    kind: str
    media_type: str
    digest: Digest | None = None
    size: int | None = None
    destinations: tuple[SiteName, ...]
    initiator: str | None = None
    declarations: dict[str, JsonValue] = field(default_factory=dict)
    previous: Digest | None = None
    turn: int = 1
    waybill_digest: Digest | None = None
    packing_digest: Digest | None = None
    outcome: str | None = None
    reasons: tuple[dict[str, JsonValue], ...] = ()
    segments: int = 0
    """Segments of the artifact, bases' included; known from commit on."""
    segments_received: int = 0
    bytes_received: int = 0


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord:
    """One delivery of a transfer, at its origin site."""

    transfer: TransferId
    destination: SiteName
    state: str
    state_at: datetime
    outcome: str | None = None
    reasons: tuple[dict[str, JsonValue], ...] = ()
    segments: int = 0
    segments_sent: int = 0
    bytes_sent: int = 0
    attempts: int = 0
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """What a tag of a repository points to at this site; only delivered artifacts have one."""

    repository: Repository
    tag: Tag
    transfer: TransferId
    digest: Digest
    kind: str
    media_type: str
    size: int
    origin: SiteName
    delivered_at: datetime


@dataclass(frozen=True, kw_only=True)
class IdentityRecord:
    """Who may do what here. `grants` are texts, as they were given; see `gateway.grants`."""

    identity: SpiffeId
    kind: Literal["agent", "person"]
    grants: tuple[str, ...]
    enrolled_at: datetime | None = None
    statement: bytes | None = None
    """The site's signed agent statement (DSSE envelope)."""


@dataclass(frozen=True, kw_only=True)
class InviteRecord:
    """A one-time permission to enrol; only the SHA-256 of its secret is kept."""

    id: str
    identity: SpiffeId
    grants: tuple[str, ...]
    secret_sha256: bytes
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A leased piece of background work; `fence` grows with each lease, so a late worker's result is refused."""

    id: int
    kind: str
    key: str
    attempts: int
    fence: int


@dataclass(frozen=True, kw_only=True)
class StoredSegment:
    """A durable segment as the catalog knows it; `row` is the agent's sealed row while its transfer is unfinished."""

    id: SegmentId
    size: int
    row: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentWay:
    """One way in which an identity comes to a segment: by transfers of this repository on this lane."""

    repository: str
    lane: str
    is_sent: bool
    """It sent them."""
    is_released: bool
    """They were released to it."""


@dataclass(frozen=True, kw_only=True)
class SegmentUse:
    """How many transfers of one repository need a segment, or how many passages hold it."""

    segment: SegmentId
    repository: Repository | None
    """None for passages: what a relay carries has no name there."""
    users: int
    is_delivered: bool
    """Whether one of these transfers is over, and delivered: here, or at the origin to each site that took it."""


@dataclass(frozen=True, kw_only=True)
class JobTally:
    """What is queued of one kind of background work."""

    kind: str
    count: int
    oldest_due: datetime
    """When the one that is due first may run, or its lease ends; long past only if nothing works."""
    attempts_max: int
    failing: int
    """Of these, how many have failed at least once."""


@dataclass(frozen=True, kw_only=True)
class WaitingDelivery:
    """A delivery that waits for a person, a fact or the other site."""

    transfer: TransferId
    destination: SiteName
    state: str
    since: datetime
    error: str | None
