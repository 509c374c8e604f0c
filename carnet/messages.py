"""Every request and response of the protocol as a type; both ends use these and nothing else touches the JSON.

Bodies are JSON objects; signed documents inside them are DSSE envelopes in their JSON form, which their own modules verify.
Parsing here checks shape and bounds only; it trusts nothing.

Rules:      1. unknown fields are refused  2. no field is a float  3. every list has a bound
Spec:       docs/protocol.md
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carnet.encoding import canonical, parse_object
from carnet.errors import PeerError
from carnet.identifiers import AgentName, Digest, LaneName, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.lack import LACKS_MAX, MissingView, Prospect
from carnet.limits import (
    BASES_MAX,
    DESTINATIONS_MAX,
    MISSING_MAX,
    REQUEST_JSON_BYTES_MAX,
    TEXT_CHARS_MAX,
    TRUST_ENTRIES_MAX,
)
from carnet.oci import ArtifactKind
from carnet.proof import EntryProof
from carnet.release import KeyRelease
from carnet.statement import MediaType, ShortText
from carnet.statement import Text as Reason
from carnet.timestamps import Timestamp
from carnet.waybill import Declarations

_VIEWS_MAX = 1_000
_APPROVALS_MAX = 64
_ROLES_MAX = 64
EnvelopeJson = dict[str, Any]
"""A DSSE envelope as JSON; `carnet.envelope.parse_envelope` reads it."""
Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
Bytes = Annotated[int, Field(ge=0, le=2**53 - 1)]
OutcomeWord = Literal["allow", "hold", "quarantine", "deny"]


class Message(BaseModel):
    """The base: frozen, strict, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    bytes_max: ClassVar[int] = REQUEST_JSON_BYTES_MAX

    @classmethod
    def parse(cls, data: bytes, *, bytes_max: int | None = None) -> Self:
        """Return the message in `data`; raise `PeerError` E-REQUEST naming the first field that is wrong."""
        document = parse_object(data, bytes_max=bytes_max or cls.bytes_max)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(piece) for piece in first["loc"])
            raise PeerError("E-REQUEST", f"{cls.__name__}: {path or 'body'}: {first['msg']}") from None

    def encode(self) -> bytes:
        """Return the message as canonical JSON."""
        return canonical(self.model_dump(mode="json", exclude_none=True))


class ReasonView(Message):
    """One rule's contribution to a decision, in words."""

    rule: Text
    outcome: Text
    text: Text
    remedy: Text = ""
    cite: Annotated[tuple[Text, ...], Field(max_length=32)] = ()


class Advice(Message):
    """What the site would decide from the declaration alone, what is missing for an allow, and how long this would stand."""

    outcome: OutcomeWord
    reasons: Annotated[tuple[ReasonView, ...], Field(max_length=256)] = ()
    gate: Literal["offer", "receipt"] | None = None
    release: OutcomeWord | None = None
    """What would become of the key, where one leaves the site."""
    release_reasons: Annotated[tuple[ReasonView, ...], Field(max_length=256)] = ()
    prospect: Prospect = "unknown"
    missing: Annotated[tuple[MissingView, ...], Field(max_length=LACKS_MAX)] = ()
    until: Timestamp | None = None


class DeclareRequest(Message):
    """An agent says what it is about to send. `digest` and `size` may be unknown until commit."""

    transfer: TransferId
    lane: LaneName
    repository: Repository
    tag: Tag
    kind: ArtifactKind
    media_type: MediaType
    digest: Digest | None = None
    size: Bytes | None = None
    declarations: Declarations
    destinations: Annotated[tuple[SiteName, ...], Field(min_length=1, max_length=DESTINATIONS_MAX)]
    initiator: ShortText | None = None
    resume: EnvelopeJson | None = None
    dry_run: bool = False
    fresh: bool = False
    """Start a new transfer although one is open; the open one is cancelled unless it is committed."""


class SealedArtifact(Message):
    """An artifact that the asker sealed earlier: enough to open its index. `segment_list` is base64."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    waybill: EnvelopeJson
    packing_list: EnvelopeJson
    segment_list: str
    release: KeyRelease


class DeclareResponse(Message):
    """The site's answer: whose transfer this is, what is already there, and what may be built upon."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    transfer: TransferId
    state: Text
    advice: Advice
    previous: Digest | None = None
    turn: Annotated[int, Field(ge=1)] = 1
    trust_version: int
    resume: EnvelopeJson | None = None
    rows: int = 0
    bases: Annotated[tuple[SealedArtifact, ...], Field(max_length=BASES_MAX)] = ()
    committed: SealedArtifact | None = None
    expires: Timestamp


class CommitRequest(Message):
    """The agent's last word: signed waybill and packing list, the segment list (base64) and the key releases."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    waybill: EnvelopeJson
    packing_list: EnvelopeJson
    segment_list: str
    releases: Annotated[tuple[KeyRelease, ...], Field(max_length=DESTINATIONS_MAX + 2)]


class RewrapRequest(Message):
    """The artifact key of a committed transfer, wrapped again to destinations that no longer hold the key it was wrapped to."""

    releases: Annotated[tuple[KeyRelease, ...], Field(min_length=1, max_length=DESTINATIONS_MAX)]


class CommitResponse(Message):
    """State after the commit, or the segments that are still missing (then nothing was committed)."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    state: Text
    missing: Annotated[tuple[SegmentId, ...], Field(max_length=MISSING_MAX)] = ()


class SignedStep(Message):
    """A decision, signed, with the proof that it is under a checkpoint of the deciding site's log."""

    decision: EnvelopeJson
    proof: EntryProof


class ForwardRequest(Message):
    """A site declares to the next one what it will send: everything but the key."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    transfer: TransferId
    site: SiteName
    waybill: EnvelopeJson
    agent_statement: EnvelopeJson
    packing_list: EnvelopeJson
    segment_list: str
    offer: SignedStep
    revocations: EnvelopeJson | None = None
    """The sender's newest revocation set, so that the receiver knows it before it is needed."""


class ForwardResponse(Message):
    """Which of the listed segments the receiver does not hold; the others are pinned until the deadline."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    state: Text
    missing: Annotated[tuple[SegmentId, ...], Field(max_length=MISSING_MAX)] = ()
    receipt: EnvelopeJson | None = None


class ApprovedHold(Message):
    """The hold that persons were asked about, with the proof that it is logged, and what they signed."""

    hold: SignedStep
    approvals: Annotated[tuple[EnvelopeJson, ...], Field(max_length=_APPROVALS_MAX)]


class SlipRequest(Message):
    """A routing slip for the next site on a passage, and the proof that it is in the signer's log."""

    bytes_max: ClassVar[int] = 2 * REQUEST_JSON_BYTES_MAX
    slip: EnvelopeJson
    proof: EntryProof
    revocations: EnvelopeJson | None = None
    """The sender's newest revocation set."""


class KeyReleaseMessage(Message):
    """Origin to destination: the key, the decision that lets it go, and the proof; and the approvals that it rests on."""

    kind: Literal["key-release"] = "key-release"
    number: Annotated[int, Field(ge=0)]
    release: KeyRelease
    step: SignedStep
    approved: ApprovedHold | None = None


class ReceiptMessage(Message):
    """Destination to origin: `delivered` or `deleted`, signed and proved."""

    kind: Literal["receipt"] = "receipt"
    number: Annotated[int, Field(ge=0)]
    receipt: EnvelopeJson
    proof: EntryProof


class DecisionMessage(Message):
    """Destination to origin: it did not deliver; the decision says why."""

    kind: Literal["decision"] = "decision"
    number: Annotated[int, Field(ge=0)]
    step: SignedStep


class RecallMessage(Message):
    """Origin to destination: withdraw this transfer. Destination to origin: it was withdrawn here."""

    kind: Literal["recall"] = "recall"
    number: Annotated[int, Field(ge=0)]
    recall: EnvelopeJson
    proof: EntryProof


class SiteMessage(Message):
    """What travels between sites about one transfer; repeating a number changes nothing."""

    bytes_max: ClassVar[int] = 4 * REQUEST_JSON_BYTES_MAX
    body: Annotated[KeyReleaseMessage | ReceiptMessage | DecisionMessage | RecallMessage, Field(discriminator="kind")]
    revocations: EnvelopeJson | None = None
    """The sender's newest revocation set."""


class NeedView(Message):
    """How many approvals of a role a hold asks for, how many are there, and who may give the others."""

    role: Text
    count: Annotated[int, Field(ge=1)]
    given: Annotated[int, Field(ge=0)] = 0
    people: Annotated[tuple[Text, ...], Field(max_length=TRUST_ENTRIES_MAX)] = ()


class GivenView(Message):
    """What one person said about a hold."""

    person: Text
    role: Text
    verdict: Literal["approve", "reject"]
    at: Timestamp
    reason: Text | None = None


class ApprovalsView(Message):
    """The decision request that is open for a delivery: what it needs, who has answered, until when."""

    request: Digest
    gate: Literal["offer", "release"]
    until: Timestamp
    needed: Annotated[tuple[NeedView, ...], Field(max_length=_ROLES_MAX)]
    given: Annotated[tuple[GivenView, ...], Field(max_length=_APPROVALS_MAX)] = ()


class ApprovalRequest(Message):
    """The signed documents from which a person builds the decision request of one delivery, and the approvals there are."""

    destination: SiteName
    gate: Literal["offer", "release"]
    waybill: EnvelopeJson
    agent_statement: EnvelopeJson
    packing_list: EnvelopeJson
    hold: SignedStep
    approvals: Annotated[tuple[EnvelopeJson, ...], Field(max_length=_APPROVALS_MAX)] = ()


class ApprovalRequests(Message):
    """What is open for approval about one transfer: one request a delivery."""

    bytes_max: ClassVar[int] = 16 * REQUEST_JSON_BYTES_MAX
    transfer: TransferId
    requests: Annotated[tuple[ApprovalRequest, ...], Field(max_length=DESTINATIONS_MAX)] = ()


class ApproveRequest(Message):
    """A person's signed word about one decision request."""

    approval: EnvelopeJson


class RecallView(Message):
    """A withdrawal: who asked for it and why; when the site was told, when it acknowledged, and its `deleted` receipt."""

    statement: EnvelopeJson
    """The signed recall, from which the next five are read."""
    site: SiteName
    cause: Text
    reason: Text
    by: SpiffeId
    at: Timestamp
    told: Timestamp | None = None
    acknowledged: Timestamp | None = None
    receipt: EnvelopeJson | None = None


class DeliveryView(Message):
    """One delivery as the origin knows it; in a list of transfers without its receipts."""

    destination: SiteName
    state: Text
    since: Timestamp
    outcome: Text | None = None
    reasons: Annotated[tuple[ReasonView, ...], Field(max_length=256)] = ()
    segments: int = 0
    segments_sent: int = 0
    bytes_sent: Bytes = 0
    error: Text | None = None
    approvals: ApprovalsView | None = None
    stored_receipt: EnvelopeJson | None = None
    delivered_receipt: EnvelopeJson | None = None
    recall: RecallView | None = None


class TransferView(Message):
    """A transfer as its site shows it to those who may see it."""

    transfer: TransferId
    role: Literal["origin", "destination"]
    state: Text
    since: Timestamp
    created: Timestamp
    lane: LaneName
    origin: SiteName
    identity: SpiffeId
    repository: Repository
    tag: Tag
    kind: ArtifactKind
    digest: Digest | None = None
    size: Bytes | None = None
    initiator: Text | None = None
    waybill_digest: Digest | None = None
    segments: int = 0
    segments_received: int = 0
    bytes_received: Bytes = 0
    outcome: Text | None = None
    reasons: Annotated[tuple[ReasonView, ...], Field(max_length=256)] = ()
    deliveries: Annotated[tuple[DeliveryView, ...], Field(max_length=DESTINATIONS_MAX)] = ()
    recall: RecallView | None = None
    """The withdrawal of the transfer at this site."""


class TransferList(Message):
    """Transfers, newest first; `next` continues the listing."""

    bytes_max: ClassVar[int] = 16 * REQUEST_JSON_BYTES_MAX
    transfers: Annotated[tuple[TransferView, ...], Field(max_length=_VIEWS_MAX)]
    next: str | None = None


class ArtifactView(Message):
    """An artifact that was delivered here."""

    repository: Repository
    tag: Tag
    digest: Digest
    kind: ArtifactKind
    media_type: Text
    size: Bytes
    transfer: TransferId
    origin: SiteName
    delivered: Timestamp


class ArtifactList(Message):
    """Artifacts by repository and tag; `next` continues the listing."""

    bytes_max: ClassVar[int] = 16 * REQUEST_JSON_BYTES_MAX
    artifacts: Annotated[tuple[ArtifactView, ...], Field(max_length=_VIEWS_MAX)]
    next: str | None = None


class ArtifactRelease(Message):
    """All a consumer needs to fetch, open and check an artifact; the site's `release` decision is proved."""

    bytes_max: ClassVar[int] = 64 * REQUEST_JSON_BYTES_MAX
    artifact: ArtifactView
    waybill: EnvelopeJson
    agent_statement: EnvelopeJson
    packing_list: EnvelopeJson
    segment_list: str
    receipt: EnvelopeJson
    release: KeyRelease
    step: SignedStep


class CancelRequest(Message):
    """Why a transfer is given up."""

    reason: Text = ""


class RecallRequest(Message):
    """Why a transfer is withdrawn; those it went to are told."""

    reason: Reason


class TrustResponse(Message):
    """All signed: the bundle, each known site's KEM statements, newest checkpoint and newest revocation set."""

    bytes_max: ClassVar[int] = 16 * REQUEST_JSON_BYTES_MAX
    site: SiteName
    bundle: EnvelopeJson
    kem_statements: Annotated[tuple[EnvelopeJson, ...], Field(max_length=_VIEWS_MAX)]
    checkpoints: dict[str, str]
    proved: dict[str, str] = {}
    """The heads that proofs came under, each an extension of the one before: what was told may be larger and another history."""
    revocations: Annotated[tuple[EnvelopeJson, ...], Field(max_length=TRUST_ENTRIES_MAX)] = ()


class RevocationResponse(Message):
    """A site's own revocation set, if it is newer than the asker knows, and what time it is there."""

    bytes_max: ClassVar[int] = 2 * REQUEST_JSON_BYTES_MAX
    site: SiteName
    now: Timestamp
    revocations: EnvelopeJson | None = None


class EnrollRequest(Message):
    """A new agent presents its invite and the public halves of the keys it made. Keys are hex, the CSR is PEM."""

    invite: Annotated[str, Field(max_length=64)]
    secret: Annotated[str, Field(max_length=64)]
    csr: Annotated[str, Field(max_length=8_000)]
    signing_key: Annotated[str, Field(max_length=64)]
    kem_key: Annotated[str, Field(max_length=2_432)]

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"EnrollRequest(invite={self.invite!r})"


class RenewRequest(Message):
    """An enrolled agent asks for its next certificate, for a new TLS key."""

    csr: Annotated[str, Field(max_length=8_000)]


class EnrollResponse(Message):
    """Certificate chain (PEM, leaf first), the agent statement, the trust bundle."""

    bytes_max: ClassVar[int] = 16 * REQUEST_JSON_BYTES_MAX
    name: AgentName
    site: SiteName
    certificate: Annotated[str, Field(max_length=64_000)]
    agent_statement: EnvelopeJson
    bundle: EnvelopeJson


class RenewResponse(Message):
    """The next certificate chain (PEM, leaf first)."""

    certificate: Annotated[str, Field(max_length=64_000)]
    agent_statement: EnvelopeJson


class Problem(Message):
    """RFC 9457 problem document with our extension members."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    type: Text
    title: Text
    status: int
    detail: Text
    code: Text
    family: Text
    remedy: Text
    request: Text = ""
    limit: Text | None = None
    retry_after_s: int | None = None
    reasons: Annotated[tuple[ReasonView, ...], Field(max_length=256)] = ()
