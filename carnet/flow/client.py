"""The client of a gateway: one method a request, in types; agents use it towards their site, sites towards their peers.

Every method may be called again after any failure. Errors are those the gateway raised, same family, same code.
Importing this file is cheap; the HTTP library is loaded when a client is made.

Rules:      1. the messages are `carnet.messages`, the paths `carnet.paths`; no JSON is made here
            2. what is read has a bound  3. a client belongs to one event loop
Spec:       docs/protocol.md
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final, Self, TypeVar

from carnet import paths
from carnet.chunking import Buffer
from carnet.encoding import encode_base64
from carnet.errors import PeerError, Unavailable
from carnet.identifiers import Digest, PassageId, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.letter import Direction
from carnet.limits import LOG_ENTRY_BYTES_MAX, SEGMENT_BYTES_MAX
from carnet.messages import (
    ApprovalRequests,
    ApproveRequest,
    ArtifactList,
    ArtifactRelease,
    ArtifactView,
    CancelRequest,
    CommitRequest,
    CommitResponse,
    DeclareRequest,
    DeclareResponse,
    EnrollRequest,
    EnrollResponse,
    ForwardRequest,
    ForwardResponse,
    Message,
    RecallRequest,
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
from carnet.rowpage import ROW_PAGE_BYTES_MAX, SentRow, parse_row_page

if TYPE_CHECKING:
    import ssl

    from carnet.flow.link import OnWait, Timeouts
    from carnet.flow.slots import Slots

MessageT = TypeVar("MessageT", bound=Message)
USER_AGENT: Final = "carnet"
_LOG_FILE_BYTES_MAX: Final = 256 * (LOG_ENTRY_BYTES_MAX + 2)
_CREATED, _OK, _NO_CONTENT, _NOT_MODIFIED = 201, 200, 204, 304


class PeerClient:
    """Requests to one gateway, over up to so many `connections`; close it, or use it as an async context manager."""

    def __init__(
        self,
        base_urls: Sequence[str],
        context: "Callable[[], ssl.SSLContext]",
        *,
        gateway: SpiffeId,
        connections: int | None = None,
        user_agent: str = USER_AGENT,
        timeouts: "Timeouts | None" = None,
        request_id: "Callable[[], str | None]" = lambda: None,
        on_wait: "OnWait | None" = None,
    ) -> None:
        """Connect to nothing yet.

        `base_urls` are tried in turn; `context` is a `carnet.flow.tls.ClientContext`; `gateway` is the identity that must answer;
        None as `connections` are as many as its distance asks for;
        `request_id` gives the id of what a request is made for, which the gateway's log then names; `on_wait` is told when it is
        waited for.
        """
        from carnet.flow.link import Call, Link, Timeouts

        self._call = Call
        self._link = Link(
            base_urls,
            context,
            gateway=gateway,
            connections=connections,
            user_agent=user_agent,
            timeouts=timeouts or Timeouts(),
            request_id=request_id,
            on_wait=on_wait,
        )

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._link.close()

    @property
    def slots(self) -> "Slots":
        """Take one before you read a segment to send; see `carnet.flow.slots`."""
        return self._link.slots

    # what an agent sends

    async def declare(self, request: DeclareRequest) -> DeclareResponse:
        """Open a transfer, or find the one that is open."""
        return await self._post(paths.TRANSFERS, request, DeclareResponse)

    async def rows(self, transfer: TransferId, after: SegmentId | None = None) -> AsyncIterator[SentRow]:
        """Yield what an unfinished transfer has there, with sealed rows, by segment id."""
        while True:
            query = [("after", str(after))] if after is not None else []
            reply = await self._link.call(
                self._call(method="GET", path=paths.transfer_action(transfer, "rows"), query=query, bytes_max=ROW_PAGE_BYTES_MAX)
            )
            for sent in parse_row_page(bytes(reply.body)):
                yield sent
            following = reply.headers.get(paths.NEXT_HEADER)
            if following is None:
                return
            if after is not None and following <= after:
                raise PeerError("E-REQUEST", f"{paths.NEXT_HEADER} does not advance: {ascii(following)[:80]}")
            after = SegmentId(following)

    async def put_segment(
        self, transfer: TransferId, segment: SegmentId, body: bytes | bytearray | memoryview, row: bytes | None = None
    ) -> bool:
        """Send a segment, with its row if an agent sends it; True if it is new there. It is durable once this returns."""
        headers = {} if row is None else {paths.ROW_HEADER: encode_base64(row)}
        reply = await self._link.call(
            self._call(
                method="PUT",
                path=paths.transfer_segment(transfer, segment),
                body=body,
                content_type=paths.BINARY_TYPE,
                headers=headers,
                statuses=frozenset({_OK, _CREATED}),
                bytes_max=0,
            )
        )
        return reply.status == _CREATED

    async def commit(self, transfer: TransferId, request: CommitRequest) -> CommitResponse:
        """Bind waybill and packing list, or learn which segments are missing."""
        return await self._post(paths.transfer_action(transfer, "commit"), request, CommitResponse)

    # what is asked about transfers

    async def show(self, transfer: TransferId) -> TransferView:
        """Return a transfer as it is now."""
        view, _ = await self._show(transfer, None, 0)
        assert view is not None  # noqa: S101 - only an answer to a known tag has no view
        return view

    async def changes(self, transfer: TransferId, timeout_s: float | None = None) -> AsyncIterator[TransferView]:
        """Yield the transfer as it is and then at every change; raise `Unavailable` E-TIMEOUT after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        tag: str | None = None
        while True:
            remaining_s = paths.WAIT_S_MAX if deadline is None else min(paths.WAIT_S_MAX, deadline - loop.time())
            if tag is not None and remaining_s <= 0:
                raise Unavailable("E-TIMEOUT", f"transfer {transfer} is not there yet after {timeout_s} seconds")
            # Never 0 with a tag known: that would ask again and again within the last second.
            view, tag = await self._show(transfer, tag, max(1, int(remaining_s)) if tag is not None else 0)
            if view is not None:
                yield view

    async def wait(
        self, transfer: TransferId, is_done: Callable[[TransferView], bool], timeout_s: float | None = None
    ) -> TransferView:
        """Return the first view for which `is_done`; raise `Unavailable` E-TIMEOUT after `timeout_s`."""
        async for view in self.changes(transfer, timeout_s):
            if is_done(view):
                return view
        raise AssertionError("changes never ends")

    async def list(
        self, *, states: Sequence[str] = (), limit: int = paths.PAGE_DEFAULT, before: str | None = None
    ) -> TransferList:
        """Return one page of transfers, newest first; `before` is the `next` of the page before."""
        query = [("state", state) for state in states] + [("limit", str(limit))]
        return await self._get(paths.TRANSFERS, TransferList, query + ([("before", before)] if before is not None else []))

    async def cancel(self, transfer: TransferId, reason: str = "") -> TransferView:
        """Give a transfer up."""
        return await self._post(paths.transfer_action(transfer, "cancel"), CancelRequest(reason=reason), TransferView)

    async def recallable(self, *, digest: Digest | None = None, name: tuple[Repository, Tag] | None = None) -> TransferList:
        """Return what a recall of this artifact would withdraw: by its digest, or by the name whose newest artifact is meant."""
        query = [("digest", str(digest))] if digest is not None else []
        query += [("name", f"{name[0]}:{name[1]}")] if name is not None else []
        return await self._get(paths.RECALLS, TransferList, query)

    async def recall(self, transfer: TransferId, reason: str) -> TransferView:
        """Withdraw a transfer here and wherever it went."""
        return await self._post(paths.transfer_action(transfer, "recall"), RecallRequest(reason=reason), TransferView)

    async def retry(self, transfer: TransferId) -> TransferView:
        """Have a stopped delivery tried again now."""
        return await self._post(paths.transfer_action(transfer, "retry"), None, TransferView)

    async def sealed(self, transfer: TransferId) -> SealedArtifact:
        """Return a committed transfer of ours, as we sealed it."""
        return await self._get(paths.transfer_action(transfer, "releases"), SealedArtifact)

    async def rewrap(self, transfer: TransferId, request: RewrapRequest) -> TransferView:
        """Hand in the key, wrapped again to destinations that wait for it."""
        return await self._post(paths.transfer_action(transfer, "releases"), request, TransferView)

    async def approval_requests(self, transfer: TransferId) -> ApprovalRequests:
        """Return what is open for approval about a transfer."""
        return await self._get(paths.transfer_action(transfer, "approvals"), ApprovalRequests)

    async def approve(self, transfer: TransferId, request: ApproveRequest) -> TransferView:
        """Hand in a person's signed approval or rejection."""
        return await self._post(paths.transfer_action(transfer, "approvals"), request, TransferView)

    # artifacts

    async def artifacts(
        self, *, repository: str | None = None, limit: int = paths.PAGE_DEFAULT, after: str | None = None
    ) -> ArtifactList:
        """Return one page of delivered artifacts by name; `after` is the `next` of the page before."""
        query = [("limit", str(limit))]
        query += [("repository", repository)] if repository is not None else []
        query += [("after", after)] if after is not None else []
        return await self._get(paths.ARTIFACTS, ArtifactList, query)

    async def artifact(self, repository: Repository, tag: Tag) -> ArtifactView:
        """Return what an artifact is, without its key."""
        return await self._get(paths.artifact(repository, tag), ArtifactView, [("view", "summary")])

    async def artifact_release(self, repository: Repository, tag: Tag) -> ArtifactRelease:
        """Return all that a pull needs; the site decides and logs first."""
        return await self._get(paths.artifact(repository, tag), ArtifactRelease)

    async def delete_artifact(self, repository: Repository, tag: Tag) -> None:
        """Remove a tag and what only it needs."""
        await self._link.call(
            self._call(method="DELETE", path=paths.artifact(repository, tag), statuses=frozenset({_NO_CONTENT}), bytes_max=0)
        )

    async def segment(self, segment: SegmentId) -> Buffer:
        """Return a sealed segment; whoever opens it checks its id."""
        reply = await self._link.call(self._call(method="GET", path=paths.segment(segment), bytes_max=SEGMENT_BYTES_MAX))
        return reply.body

    # identity and trust

    async def trust(self) -> TrustResponse:
        """Return the trust bundle and what belongs to it; the caller verifies every signature."""
        return await self._get(paths.TRUST, TrustResponse)

    async def revocations(self, after: int) -> RevocationResponse:
        """Return the site's revocation set if its number is above `after`; the caller verifies it."""
        return await self._get(paths.REVOCATIONS, RevocationResponse, [("after", str(after))])

    async def enroll(self, request: EnrollRequest) -> EnrollResponse:
        """Use an invite up."""
        return await self._post(paths.ENROLL, request, EnrollResponse)

    async def renew(self, request: RenewRequest) -> RenewResponse:
        """Obtain the next certificate."""
        return await self._post(paths.RENEW, request, RenewResponse)

    async def log_file(self, name: str) -> bytes:
        """Return a file of the site's log: `checkpoint` or `tile/...`; raises `NotFound` if there is none."""
        reply = await self._link.call(self._call(method="GET", path=paths.log_file(name), bytes_max=_LOG_FILE_BYTES_MAX))
        return bytes(reply.body)

    async def far_log_file(self, site: SiteName, name: str) -> bytes:
        """Return a tile of the log of another site that this one leads to as a relay; the caller checks it by its hashes."""
        path = paths.far_log_file(site, name)
        reply = await self._link.call(self._call(method="GET", path=path, bytes_max=_LOG_FILE_BYTES_MAX))
        return bytes(reply.body)

    # between sites

    async def forward_declare(self, request: ForwardRequest) -> ForwardResponse:
        """Declare a transfer to the next site."""
        return await self._post(paths.TRANSFERS, request, ForwardResponse)

    async def forward_commit(self, transfer: TransferId) -> ForwardResponse:
        """End the sending of segments; the answer has the receipt, or what is missing."""
        return await self._post(paths.transfer_action(transfer, "commit"), None, ForwardResponse)

    async def message(self, transfer: TransferId, message: SiteMessage) -> None:
        """Send a numbered message; a repeated one changes nothing."""
        await self._link.call(
            self._call(
                method="POST",
                path=paths.transfer_action(transfer, "messages"),
                body=message.encode(),
                statuses=frozenset({_NO_CONTENT}),
                bytes_max=0,
            )
        )

    # over relays

    async def pass_slip(self, passage: PassageId, request: SlipRequest) -> None:
        """Hand a routing slip to the next site on a passage."""
        await self._link.call(
            self._call(
                method="POST",
                path=paths.passage_slips(passage),
                body=request.encode(),
                statuses=frozenset({_NO_CONTENT}),
                bytes_max=0,
            )
        )

    async def pass_segment(self, passage: PassageId, segment: SegmentId, body: bytes) -> bool:
        """Hand a segment to the next site on a passage; True if it is new there. It is durable there once this returns."""
        reply = await self._link.call(
            self._call(
                method="PUT",
                path=paths.passage_segment(passage, segment),
                body=body,
                content_type=paths.BINARY_TYPE,
                statuses=frozenset({_OK, _CREATED}),
                bytes_max=0,
            )
        )
        return reply.status == _CREATED

    async def pass_letter(self, passage: PassageId, direction: Direction, number: int, slips: int, body: bytes) -> None:
        """Hand a sealed letter to a neighbour on a passage; a repeated number changes nothing."""
        await self._link.call(
            self._call(
                method="PUT",
                path=paths.passage_letter(passage, direction.value, number),
                query=[("slips", str(slips))],
                body=body,
                content_type=paths.BINARY_TYPE,
                statuses=frozenset({_NO_CONTENT}),
                bytes_max=0,
            )
        )

    async def _show(self, transfer: TransferId, tag: str | None, wait_s: int) -> tuple[TransferView | None, str]:
        """Return the view and its tag; None for the view if it still has `tag` after `wait_s`."""
        reply = await self._link.call(
            self._call(
                method="GET",
                path=paths.transfer(transfer),
                query=[("wait", str(wait_s))] if wait_s else [],
                headers={"If-None-Match": tag} if tag is not None else {},
                statuses=frozenset({_OK, _NOT_MODIFIED}),
                bytes_max=TransferView.bytes_max,
                wait_s=wait_s,
            )
        )
        view = TransferView.parse(bytes(reply.body)) if reply.status == _OK else None
        return view, reply.headers.get("ETag", "")

    async def _get(self, path: str, kind: type[MessageT], query: Sequence[tuple[str, str]] = ()) -> MessageT:
        reply = await self._link.call(self._call(method="GET", path=path, query=query, bytes_max=kind.bytes_max))
        return kind.parse(bytes(reply.body))

    async def _post(self, path: str, message: Message | None, kind: type[MessageT]) -> MessageT:
        body = message.encode() if message is not None else None
        reply = await self._link.call(self._call(method="POST", path=path, body=body, bytes_max=kind.bytes_max))
        return kind.parse(bytes(reply.body))
