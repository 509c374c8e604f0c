"""The routing slip: all that a relay sees of what it carries, signed by the site before it.

A relay learns where a passage comes from and goes to, how many sealed bytes under which ids it is to carry, and until when. It
learns no name, no digest of content, and holds no key. The slip names the whole way, so that each site compares it with the
lanes of its own trust bundle and with who speaks to it.

Rules:      1. a slip is signed by the site before the one it is for, and logged there first  2. its way is a route that the trust
            bundle gives the lane  3. what is not on a slip is not carried  4. slips of a passage are numbered from 0, without gap
Layout:     way = (origin, relay, ..., destination); the slip is for `site`, its signer is the one before `site` on the way
Spec:       docs/statements.md section "Routing slip"; docs/protocol.md section "Over relays"
Example:    >>> neighbours(("eu", "sg", "us"), "sg")
            ('eu', 'us')
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from carnet.checkpoint import log_origin
from carnet.encoding import decode_base64, encode_base64
from carnet.entries import EntryType
from carnet.envelope import Envelope
from carnet.errors import IntegrityError, NotAuthorised, NotFound, PeerError
from carnet.identifiers import LaneName, PassageId, SiteName, TransferId
from carnet.limits import DESTINATIONS_MAX, SLIP_SEGMENTS_MAX
from carnet.packing import SEGMENT_RECORD_BYTES, SegmentList
from carnet.proof import EntryProof, verify_entry_proof
from carnet.statement import Count, Statement, Unique
from carnet.timestamps import Timestamp
from carnet.trust import Carriage, TrustBundle

_WAY_SITES_MAX: Final = DESTINATIONS_MAX + 2
_SEGMENTS_CHARS_MAX: Final = (SLIP_SEGMENTS_MAX * SEGMENT_RECORD_BYTES + 2) // 3 * 4
_Name = TypeVar("_Name", bound=str)


def _check_segments(text: str) -> str:
    try:
        SegmentList.parse(decode_base64(text))
    except PeerError as error:
        raise ValueError(error.problem) from None
    return text


SegmentsText = Annotated[str, Field(max_length=_SEGMENTS_CHARS_MAX), AfterValidator(_check_segments)]
"""A segment list in standard base64."""


class RoutingSlip(Statement):
    """What the site before asks `site` to carry on one passage."""

    payload_type: ClassVar[str] = "application/vnd.carnet.routing-slip.v1+json"

    transfer: TransferId
    passage: PassageId
    number: Count
    lane: LaneName
    way: Annotated[tuple[SiteName, ...], Field(min_length=3, max_length=_WAY_SITES_MAX), Unique]
    site: SiteName
    carriage: Carriage
    deadline: Timestamp
    delete_by: Timestamp
    segments: SegmentsText
    at: Timestamp

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.site not in self.way[1:]:
            raise ValueError("the slip is for a site that nobody on its way comes before")
        if not self.at <= self.deadline <= self.delete_by:
            raise ValueError("at, deadline and delete_by are not in this order")
        if self.is_withdrawal and self.segments:
            raise ValueError("a slip that withdraws carries nothing")
        return self

    @property
    def sender(self) -> SiteName:
        """The site before, which signs."""
        return self.way[self.way.index(self.site) - 1]

    @property
    def next(self) -> SiteName | None:
        """The site that gets it from `site`, or None at the destination."""
        return neighbours(self.way, self.site)[1]

    @property
    def origin(self) -> SiteName:
        """Where the passage begins."""
        return self.way[0]

    @property
    def destination(self) -> SiteName:
        """Where the passage ends."""
        return self.way[-1]

    @property
    def is_withdrawal(self) -> bool:
        """Whether it says that nothing is to be carried any more: what is held is deleted now."""
        return self.delete_by == self.at

    def segment_list(self) -> SegmentList:
        """Return the segments to carry, with their sizes."""
        return SegmentList.parse(decode_base64(self.segments))

    def for_next(self, at: str) -> "RoutingSlip":
        """Return the slip with which `site` hands on what this one names; raises `ValueError` at the destination."""
        following = self.next
        if following is None:
            raise ValueError("the way ends here")
        # A relay that gives more time than it was given would keep what it was told to delete; one that is late gives none.
        # A withdrawal stays one where the clock is behind.
        return self.model_copy(update={"site": following, "at": self.at if self.is_withdrawal else min(at, self.deadline)})


def encode_segments(segments: SegmentList) -> str:
    """Return the segments as a slip carries them."""
    return encode_base64(segments.encode())


def neighbours(way: Sequence[_Name], site: _Name) -> tuple[_Name | None, _Name | None]:
    """Return who comes before and after `site` on `way`, None for nobody; raises `ValueError` if it is not on it."""
    place = list(way).index(site)
    return way[place - 1] if place else None, way[place + 1] if place + 1 < len(way) else None


def open_slip(envelope: Envelope, proof: EntryProof, *, bundle: TrustBundle, passage: PassageId, site: SiteName) -> RoutingSlip:
    """Return the slip in `envelope`, for `site`, after rules 1 and 2.

    Steps: (1) it is for this site and passage; (2) the site before signed it; (3) it is in that site's log, by an entry
    that commits to this very slip; (4) its way is a route of the lane.

    Raises:
        IntegrityError: E-SIGNATURE, E-PROOF. PeerError: E-FORMAT. NotFound: E-SITE-UNKNOWN, E-LANE-UNKNOWN.
        NotAuthorised: E-NOT-ALLOWED for a way that the trust bundle does not give the lane.
    """
    claimed = RoutingSlip.read_unverified(envelope)
    if (claimed.site, claimed.passage) != (site, passage):  # (1)
        raise IntegrityError(
            "E-SIGNATURE", f"the routing slip is for {claimed.site} on passage {claimed.passage}, not for {site}"
        )
    before = bundle.site(claimed.sender)
    slip = RoutingSlip.open(envelope, [before.signing_key])  # (2)
    entry = verify_entry_proof(proof, log_origin=log_origin(bundle.trust_domain, before.name), key=before.signing_key)
    entry.require(EntryType.SLIP_SIGNED, {"slip": str(slip.digest), "passage": str(passage)})  # (3)
    check_way(slip, bundle)  # (4)
    return slip


def check_way(slip: RoutingSlip, bundle: TrustBundle) -> None:
    """Return if the slip's way is a route of its lane; raises as `open_slip` says for step 4."""
    lane = bundle.lane(slip.lane)
    relays = slip.way[1:-1]
    is_route = any((route.relays, route.carriage) == (relays, slip.carriage) for route in lane.routes)
    if lane.origin != slip.origin or slip.destination not in lane.destinations or not is_route:
        shown = " > ".join(slip.way)
        raise NotAuthorised("E-NOT-ALLOWED", f"{shown} ({slip.carriage}) is no route of lane {slip.lane}")


def require_listed(slip: RoutingSlip, listed: SegmentList, pages: dict[str, int]) -> None:
    """Return if every segment of the slip is on the signed list or a page of the index, with that size.

    Raises:
        NotFound: E-SEGMENT-UNKNOWN for one that was not signed for: the relay, or whoever gave it the slip, smuggles.
    """
    for identifier, size in slip.segment_list():
        if pages.get(identifier) != size and listed.size_of(identifier) != size:
            raise NotFound("E-SEGMENT-UNKNOWN", f"the slip names {identifier} of {size} bytes, which is not on the signed list")
