"""The use cases as the HTTP edge sees them; `gateway.assembly.Gateway` has them under these names.

The edge knows who asks and what they sent, in types; whether they may is the use case's affair. Errors are `carnet.errors`.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from carnet.identifiers import Digest, PassageId, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.letter import Direction
from carnet.messages import (
    ApprovalRequests,
    ApproveRequest,
    ArtifactList,
    ArtifactRelease,
    ArtifactView,
    CommitRequest,
    CommitResponse,
    DeclareRequest,
    DeclareResponse,
    EnrollRequest,
    EnrollResponse,
    ForwardRequest,
    ForwardResponse,
    RenewRequest,
    RenewResponse,
    RevocationResponse,
    RewrapRequest,
    SealedArtifact,
    SiteMessage,
    SlipRequest,
    TransferList,
    TransferView,
    TrustResponse,
)
from carnet.trust import TrustedState
from gateway.records import StoredSegment


class Receive(Protocol):
    """What agents and people send."""

    async def declare(self, identity: SpiffeId, request: DeclareRequest) -> DeclareResponse:
        """Open a transfer, or find the one that is open."""
        ...

    async def rows(self, identity: SpiffeId, transfer: TransferId, after: SegmentId | None) -> list[StoredSegment]:
        """Return at most 512 rows by id, after `after`."""
        ...

    async def put_segment(
        self, identity: SpiffeId, transfer: TransferId, segment: SegmentId, data: bytearray | memoryview, row: bytes | None
    ) -> bool:
        """Keep a segment and its row durably; True if it is new. `data` is the caller's again once this returns."""
        ...

    async def commit(self, identity: SpiffeId, transfer: TransferId, request: CommitRequest) -> CommitResponse:
        """Bind waybill and packing list, or say what is missing."""
        ...


class Inbound(Protocol):
    """What peer gateways send."""

    async def declare(self, peer: SpiffeId, request: ForwardRequest) -> ForwardResponse:
        """Accept a forwarded transfer and say which segments are missing."""
        ...

    async def put_segment(self, peer: SpiffeId, transfer: TransferId, segment: SegmentId, data: bytearray | memoryview) -> bool:
        """Keep a segment durably; True if it is new. `data` is the caller's again once this returns."""
        ...

    async def commit(self, peer: SpiffeId, transfer: TransferId) -> ForwardResponse:
        """End the sending of segments."""
        ...

    async def message(self, peer: SpiffeId, transfer: TransferId, message: SiteMessage) -> None:
        """Take a numbered message; a repeated one changes nothing."""
        ...


class Passages(Protocol):
    """What the neighbours on a passage over relays hand over."""

    async def take_slip(self, peer: SpiffeId, passage: PassageId, request: SlipRequest) -> None:
        """Take a routing slip, and at a relay sign the next one."""
        ...

    async def put_segment(self, peer: SpiffeId, passage: PassageId, segment: SegmentId, data: bytearray | memoryview) -> bool:
        """Keep a segment durably; True if it is new. `data` is the caller's again once this returns."""
        ...

    async def take_letter(
        self, peer: SpiffeId, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes
    ) -> None:
        """Keep a letter durably; a repeated number changes nothing."""
        ...


class FarLogs(Protocol):
    """The logs of the sites that this one leads to as a relay."""

    async def file(self, peer: SpiffeId, site: SiteName, name: str) -> bytes:
        """Return a file of the log of `site` for a neighbour on a route to it."""
        ...


class Transfers(Protocol):
    """What is asked about transfers."""

    async def show(self, identity: SpiffeId, transfer: TransferId) -> TransferView:
        """Return one transfer."""
        ...

    async def list(self, identity: SpiffeId, *, states: Sequence[str], limit: int, before: str | None) -> TransferList:
        """Return transfers, newest first."""
        ...

    async def cancel(self, identity: SpiffeId, transfer: TransferId, reason: str) -> TransferView:
        """Give a transfer up."""
        ...

    async def retry(self, identity: SpiffeId, transfer: TransferId) -> TransferView:
        """Try a stopped delivery again now."""
        ...

    async def changed(self, transfer: TransferId, timeout_s: float) -> None:
        """Return when the transfer changed after this call began, or after `timeout_s`; safe to cancel."""
        ...


class NeedsRewrap(Protocol):
    """Keys that a destination cannot use any more, wrapped again by who sealed."""

    async def sealed(self, identity: SpiffeId, transfer: TransferId) -> SealedArtifact:
        """Return what the identity sealed itself."""
        ...

    async def take(self, identity: SpiffeId, transfer: TransferId, request: RewrapRequest) -> None:
        """Take new releases."""
        ...


class Approvals(Protocol):
    """What persons are asked, and what they answer."""

    async def requests(self, identity: SpiffeId, transfer: TransferId) -> ApprovalRequests:
        """Return the signed documents of each request that is open about a transfer."""
        ...

    async def take(self, identity: SpiffeId, transfer: TransferId, request: ApproveRequest) -> TransferView:
        """Keep a person's signed word."""
        ...


class Recalls(Protocol):
    """How what was committed is withdrawn."""

    async def find(self, identity: SpiffeId, *, digest: Digest | None, name: tuple[Repository, Tag] | None) -> list[TransferId]:
        """Return what a recall by this digest or name would withdraw."""
        ...

    async def recall(self, identity: SpiffeId, transfer: TransferId, reason: str) -> None:
        """Withdraw a transfer here and wherever it went."""
        ...


class Artifacts(Protocol):
    """What is asked about delivered artifacts."""

    async def list(self, identity: SpiffeId, *, repository: str | None, limit: int, after: str | None) -> ArtifactList:
        """Return artifacts by name."""
        ...

    async def show(self, identity: SpiffeId, repository: Repository, tag: Tag) -> ArtifactView:
        """Return one artifact, without a key."""
        ...

    async def release(self, identity: SpiffeId, repository: Repository, tag: Tag) -> ArtifactRelease:
        """Decide at `release` and wrap the key to the asker."""
        ...

    async def delete(self, identity: SpiffeId, repository: Repository, tag: Tag) -> None:
        """Remove the tag and what only it needs."""
        ...

    async def segment(self, identity: SpiffeId, segment: SegmentId) -> bytes:
        """Return a segment that `identity` may read."""
        ...


class Enrolment(Protocol):
    """How identities come to have certificates."""

    async def enroll(self, request: EnrollRequest) -> EnrollResponse:
        """Use an invite up."""
        ...

    async def renew(self, identity: SpiffeId, request: RenewRequest) -> RenewResponse:
        """Issue the next certificate."""
        ...


class Revocations(Protocol):
    """Who may not come in any more."""

    def check_leaf(self, identity: SpiffeId, not_before: datetime) -> None:
        """Raise `NotAuthenticated` E-REVOKED for a certificate that is void."""
        ...


class Floor(Protocol):
    """The latest time that there is proof of."""

    def judged(self, now: datetime) -> datetime:
        """Return the time that expiry is judged at."""
        ...


class Trust(Protocol):
    """The trust bundle and what belongs to it."""

    async def response(self) -> TrustResponse:
        """Return the signed documents."""
        ...

    def own_revocations(self, after: int) -> RevocationResponse:
        """Return the site's own revocation set if its number is above `after`."""
        ...

    @property
    def revocations(self) -> "Revocations":
        """Who is revoked."""
        ...

    @property
    def floor(self) -> "Floor":
        """How late it is at least."""
        ...

    def state(self) -> TrustedState:
        """Return what is trusted now, from memory; raise `IntegrityError` E-TRUST before the first import."""
        ...


class Reading(Protocol):
    """What is known of the site's health."""

    async def text(self) -> bytes:
        """Return it as metrics."""
        ...


class LogFiles(Protocol):
    """Where the log's published files are."""

    @property
    def directory(self) -> Path:
        """The directory of `checkpoint` and `tile/`."""
        ...


class Gateway(Protocol):
    """All that the edge calls."""

    @property
    def receive(self) -> Receive:
        """For agents and people."""
        ...

    @property
    def inbound(self) -> Inbound:
        """For peer gateways."""
        ...

    @property
    def passages(self) -> Passages:
        """For the neighbours on a passage."""
        ...

    @property
    def far_logs(self) -> FarLogs:
        """For the neighbours on a route."""
        ...

    @property
    def transfers(self) -> Transfers:
        """About transfers."""
        ...

    @property
    def needs_rewrap(self) -> NeedsRewrap:
        """About keys that are wrapped again."""
        ...

    @property
    def approvals(self) -> Approvals:
        """About approvals."""
        ...

    @property
    def recalls(self) -> Recalls:
        """About withdrawals."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """About artifacts."""
        ...

    @property
    def enrolment(self) -> Enrolment:
        """About certificates."""
        ...

    @property
    def trust(self) -> Trust:
        """About trust."""
        ...

    @property
    def log(self) -> LogFiles:
        """The log."""
        ...
