"""One valid message of each kind of the protocol, the same at every call."""

from carnet.encoding import encode_base64
from carnet.identifiers import Repository, SpiffeId, Tag
from carnet.lack import MissingView
from carnet.messages import (
    Advice,
    ApprovalRequest,
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
    DeliveryView,
    EnrollRequest,
    EnrollResponse,
    ForwardRequest,
    ForwardResponse,
    ReasonView,
    RecallMessage,
    RecallRequest,
    RecallView,
    RenewRequest,
    RenewResponse,
    RevocationResponse,
    RewrapRequest,
    SealedArtifact,
    SignedStep,
    SiteMessage,
    SlipRequest,
    TransferList,
    TransferView,
    TrustResponse,
)
from carnet.proof import EntryProof
from carnet.release import KeyRelease
from carnet.waybill import Declarations
from tests.carnet.samples import AGENT, AT, DOMAIN, EU, LATER, TRANSFER, US, digest, segment

ENVELOPE = {"payload": "e30=", "payloadType": "application/vnd.carnet.waybill.v1+json", "signatures": []}
REPOSITORY, TAG = Repository("team/app"), Tag("v1")
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
REASON = ReasonView(
    rule="eu-only",
    outcome="hold",
    text="personal data leaves the EU",
    remedy="ask the data protection officer",
    cite=("GDPR Art. 44",),
)


def key_release() -> KeyRelease:
    return KeyRelease(
        suite=1,
        recipient=SpiffeId.make(DOMAIN, EU, "gateway", EU),
        key_number=1,
        key_digest="ab" * 32,
        wrapped=encode_base64(b"enc || ciphertext"),
    )


def entry_proof() -> EntryProof:
    return EntryProof(checkpoint="note\n", entry="e30=", hashes=(), index=0, openings={})


def signed_step() -> SignedStep:
    return SignedStep(decision=ENVELOPE, proof=entry_proof())


def sealed_artifact() -> SealedArtifact:
    return SealedArtifact(waybill=ENVELOPE, packing_list=ENVELOPE, segment_list="", release=key_release())


def rewrap_request() -> RewrapRequest:
    return RewrapRequest(releases=(key_release(),))


def declare_request(**changes: object) -> DeclareRequest:
    fields = {
        "transfer": TRANSFER,
        "lane": "us-eu",
        "repository": REPOSITORY,
        "tag": TAG,
        "kind": "image",
        "media_type": MEDIA_TYPE,
        "digest": digest("manifest"),
        "size": 1_000_000,
        "declarations": Declarations(classification="internal"),
        "destinations": (EU,),
        "initiator": "ada@acme.example",
    }
    return DeclareRequest(**(fields | changes))


def advice() -> Advice:
    return Advice(
        outcome="hold",
        reasons=(REASON,),
        gate="offer",
        release="hold",
        release_reasons=(REASON,),
        prospect="listed",
        missing=(
            MissingView(
                what="legal.basis",
                wanted="is one of 'scc', 'adequacy'",
                who="the sender",
                how="carnet push ... -d legal-basis=...",
                gate="offer",
            ),
            MissingView(
                what="approval by dpo",
                wanted="one person, before the key leaves",
                who="carol",
                how="carnet approve TRANSFER --to eu",
                gate="release",
                destination=EU,
            ),
        ),
        until=LATER,
    )


def declare_response(**changes: object) -> DeclareResponse:
    fields = {
        "transfer": TRANSFER,
        "state": "declared",
        "advice": advice(),
        "trust_version": 3,
        "expires": LATER,
    }
    return DeclareResponse(**(fields | changes))


def commit_request() -> CommitRequest:
    return CommitRequest(waybill=ENVELOPE, packing_list=ENVELOPE, segment_list="", releases=(key_release(),))


def commit_response(**changes: object) -> CommitResponse:
    return CommitResponse(**({"state": "received"} | changes))


def forward_request() -> ForwardRequest:
    return ForwardRequest(
        transfer=TRANSFER,
        site=US,
        waybill=ENVELOPE,
        agent_statement=ENVELOPE,
        packing_list=ENVELOPE,
        segment_list="",
        offer=signed_step(),
    )


def forward_response(**changes: object) -> ForwardResponse:
    return ForwardResponse(**({"state": "receiving", "missing": (segment(1), segment(2))} | changes))


def site_message() -> SiteMessage:
    return SiteMessage(body=RecallMessage(number=1, recall=ENVELOPE, proof=entry_proof()))


def slip_request() -> SlipRequest:
    return SlipRequest(slip=ENVELOPE, proof=entry_proof())


def transfer_view(**changes: object) -> TransferView:
    fields = {
        "transfer": TRANSFER,
        "role": "origin",
        "state": "admitted",
        "since": AT,
        "created": AT,
        "lane": "us-eu",
        "origin": US,
        "identity": AGENT,
        "repository": REPOSITORY,
        "tag": TAG,
        "kind": "image",
        "deliveries": (DeliveryView(destination=EU, state="sending", since=AT, segments=5, segments_sent=2, bytes_sent=2_002),),
    }
    return TransferView(**(fields | changes))


def transfer_list(**changes: object) -> TransferList:
    return TransferList(**({"transfers": (transfer_view(),), "next": f"{AT}|{TRANSFER}"} | changes))


def approval_requests() -> ApprovalRequests:
    asked = ApprovalRequest(
        destination=EU, gate="release", waybill=ENVELOPE, agent_statement=ENVELOPE, packing_list=ENVELOPE, hold=signed_step()
    )
    return ApprovalRequests(transfer=TRANSFER, requests=(asked,))


def approve_request() -> ApproveRequest:
    return ApproveRequest(approval=ENVELOPE | {"payloadType": "application/vnd.carnet.approval.v1+json"})


def artifact_view() -> ArtifactView:
    return ArtifactView(
        repository=REPOSITORY,
        tag=TAG,
        digest=digest("manifest"),
        kind="image",
        media_type=MEDIA_TYPE,
        size=1_000_000,
        transfer=TRANSFER,
        origin=US,
        delivered=AT,
    )


def artifact_list() -> ArtifactList:
    return ArtifactList(artifacts=(artifact_view(),), next="team/app:v1")


def artifact_release() -> ArtifactRelease:
    return ArtifactRelease(
        artifact=artifact_view(),
        waybill=ENVELOPE,
        agent_statement=ENVELOPE,
        packing_list=ENVELOPE,
        segment_list="",
        receipt=ENVELOPE,
        release=key_release(),
        step=signed_step(),
    )


def trust_response() -> TrustResponse:
    return TrustResponse(
        site=US, bundle=ENVELOPE, kem_statements=(ENVELOPE,), checkpoints={US: "note\n"}, revocations=(ENVELOPE,)
    )


def revocation_response(after: int = 0) -> RevocationResponse:
    return RevocationResponse(site=US, now="2026-11-24T22:53:44Z", revocations=None if after else ENVELOPE)


def enroll_request() -> EnrollRequest:
    return EnrollRequest(invite="0" * 32, secret="c2VjcmV0", csr="CSR", signing_key="c2lnbg==", kem_key="a2Vt")


def enroll_response() -> EnrollResponse:
    return EnrollResponse(name="build-1", site=US, certificate="PEM", agent_statement=ENVELOPE, bundle=ENVELOPE)


def renew_request() -> RenewRequest:
    return RenewRequest(csr="CSR")


def renew_response() -> RenewResponse:
    return RenewResponse(certificate="PEM", agent_statement=ENVELOPE)


def recall_view() -> RecallView:
    return RecallView(
        statement=ENVELOPE, site=US, cause="recalled", reason="built from the wrong branch", by=AGENT, at=AT, told=AT
    )


def recall_request() -> RecallRequest:
    return RecallRequest(reason="built from the wrong branch")


def cancel_request() -> CancelRequest:
    return CancelRequest(reason="built from the wrong branch")
