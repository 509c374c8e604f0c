"""Valid documents to change in tests: one of each kind, the same at every call."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from carnet.approval import Approval, Verdict
from carnet.decision import Decision, Gate, Outcome, Reason
from carnet.errors import CarnetError
from carnet.identifiers import Digest, LaneName, PassageId, Repository, SegmentId, SiteName, SpiffeId, Tag, TransferId
from carnet.keys import KemPrivateKey, SigningKey, key_commitment
from carnet.letter import Direction, Letter, LetterKind, Place
from carnet.packing import IndexPage, PackingList, SegmentList, SegmentSummary
from carnet.recall import Recall, RecallCause
from carnet.receipt import Deletion, Receipt, ReceiptKind, ReceiptSegments
from carnet.revocation import RevocationSet, RevokedIdentity, RevokedKem, RevokedKey
from carnet.routing import RoutingSlip, encode_segments
from carnet.trust import AgentStatement, Carriage, KemStatement, Lane, LaneMode, Person, Roots, Route, Site, TrustBundle
from carnet.waybill import ArtifactKind, Declarations, Origin, Party, Waybill

T = TypeVar("T")
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
AT, LATER = "2026-11-24T12:00:00Z", "2026-12-24T12:00:00Z"
DOMAIN = "acme.example"
US, EU, SG = SiteName("us"), SiteName("eu"), SiteName("sg")
TRANSFER = TransferId("0123456789abcdef" * 2)
PASSAGE = PassageId("fedcba9876543210" * 2)
AGENT = SpiffeId.make(DOMAIN, US, "agent", "build-1")
ARTIFACT_KEY = bytes(range(32))
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def outcome(call: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return what `call` returned, or the code of the error of ours that it raised."""
    try:
        return call(), None
    except CarnetError as error:
        return None, error.code


def signing_key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


def kem_key(number: int) -> KemPrivateKey:
    return KemPrivateKey(bytes([number]) * 32)


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def segment(number: int) -> SegmentId:
    return SegmentId(f"b3-{number:064x}")


def waybill(**changes: object) -> Waybill:
    fields = {
        "transfer": TRANSFER,
        "repository": Repository("team/app"),
        "tag": Tag("v1"),
        "kind": ArtifactKind.IMAGE,
        "media_type": "application/vnd.oci.image.manifest.v1+json",
        "artifact": digest("manifest"),
        "size": 1_000_000,
        "closure": digest("closure"),
        "origin": Origin(site=US, agent=AGENT, initiator="ada@acme.example"),
        "at": AT,
        "not_after": LATER,
        "turn": 1,
        "destinations": (EU,),
        "lane": LaneName("us-eu"),
        "trust_version": 3,
        "declarations": Declarations(
            classification="internal",
            data_categories=("telemetry",),
            export_control_number="5D992",
            purpose="release",
            parties=(Party(role="consignee", name="ACME GmbH", country="DE"),),
            labels={"team": "platform"},
        ),
    }
    return Waybill(**(fields | changes))


def segment_list() -> SegmentList:
    return SegmentList.of((segment(number), 1_000 + number) for number in range(5))


def packing_list(**changes: object) -> PackingList:
    fields = {
        "transfer": TRANSFER,
        "waybill": waybill().digest,
        "suite": 1,
        "sealer": AGENT,
        "sites": (US, EU),
        "index": (IndexPage(id=segment(9), size=4_096),),
        "segments": SegmentSummary.of(segment_list()),
        "key_commitment": key_commitment(1, ARTIFACT_KEY, TRANSFER).hex(),
        "at": AT,
    }
    return PackingList(**(fields | changes))


def decision(**changes: object) -> Decision:
    fields = {
        "gate": Gate.OFFER,
        "outcome": Outcome.DENY,
        "site": US,
        "transfer": TRANSFER,
        "waybill": waybill().digest,
        "destination": EU,
        "policy": digest("policy"),
        "trust_version": 3,
        "facts": digest("facts"),
        "reasons": (
            Reason(rule="no-export", outcome=Outcome.DENY, text="not without a licence", inputs={"export.number": "5D992"}),
        ),
        "at": AT,
        "not_after": LATER,
    }
    return Decision(**(fields | changes))


def approval(**changes: object) -> Approval:
    fields = {
        "request": digest("request"),
        "person": "ada",
        "role": "export-control",
        "verdict": Verdict.APPROVE,
        "at": AT,
    }
    return Approval(**(fields | changes))


def receipt(**changes: object) -> Receipt:
    fields = {
        "kind": ReceiptKind.STORED,
        "site": EU,
        "transfer": TRANSFER,
        "waybill": waybill().digest,
        "packing": packing_list().digest,
        "artifact": digest("manifest"),
        "segments": ReceiptSegments(count=5, bytes=5_010),
        "at": AT,
    }
    return Receipt(**(fields | changes))


def recall(**changes: object) -> Recall:
    fields = {
        "site": US,
        "transfer": TRANSFER,
        "waybill": waybill().digest,
        "packing": packing_list().digest,
        "artifact": digest("manifest"),
        "cause": RecallCause.RECALLED,
        "reason": "built from the wrong branch",
        "by": AGENT,
        "tell": (EU,),
        "at": AT,
    }
    return Recall(**(fields | changes))


def deletion(**changes: object) -> Deletion:
    fields = {
        "recall": recall().digest,
        "keys": 1,
        "kept": ReceiptSegments(count=2, bytes=2_003),
        "kept_for": 1,
        "consumers": 3,
    }
    return Deletion(**(fields | changes))


def deleted_receipt(**changes: object) -> Receipt:
    return receipt(**({"kind": ReceiptKind.DELETED, "deletion": deletion()} | changes))


ROOT_KEYS = tuple(signing_key(number) for number in (201, 202, 203))
SITE_KEYS = {US: signing_key(101), EU: signing_key(102), SG: signing_key(103)}


def site(name: SiteName, **changes: object) -> Site:
    fields = {
        "name": name,
        "jurisdiction": "US" if name == US else "DE",
        "operator": "ACME",
        "urls": (f"https://{name}.acme.example:8443",),
        "tls_ca": PEM,
        "signing_key": SITE_KEYS[name].public,
    }
    return Site(**(fields | changes))


def lane(**changes: object) -> Lane:
    fields = {"name": "us-eu", "origin": US, "destinations": (EU,), "mode": LaneMode.INSPECTED, "suites": (1,)}
    return Lane(**(fields | changes))


def relayed_bundle(**changes: object) -> TrustBundle:
    """Return a bundle in which sg is a relay between us and eu."""
    changes = {"routes": (Route(relays=(SG,)),)} | changes
    return bundle(sites=(site(US), site(EU), site(SG)), lanes=(lane(**changes),))


def slip(**changes: object) -> RoutingSlip:
    """Return the slip with which us asks sg to carry two segments to eu."""
    fields = {
        "transfer": TRANSFER,
        "passage": PASSAGE,
        "number": 1,
        "lane": LaneName("us-eu"),
        "way": (US, SG, EU),
        "site": SG,
        "carriage": Carriage.TRANSIT,
        "deadline": "2026-11-24T13:00:00Z",
        "delete_by": "2026-11-25T13:00:00Z",
        "segments": encode_segments(SegmentList.of([(segment(1), 70_000), (segment(2), 1_000_000)])),
        "at": AT,
    }
    return RoutingSlip(**(fields | changes))


def letter() -> Letter:
    """Return the letter with which us ends the segments of a passage to eu."""
    place = Place(transfer=TRANSFER, passage=PASSAGE, sender=US, recipient=EU, direction=Direction.ONWARD, number=3)
    return Letter.at(place, LetterKind.COMMIT, b"{}")


def bundle(**changes: object) -> TrustBundle:
    fields = {
        "version": 3,
        "issued": AT,
        "expires": LATER,
        "trust_domain": DOMAIN,
        "roots": Roots(keys=tuple(key.public for key in ROOT_KEYS), threshold=2),
        "sites": (site(US), site(EU)),
        "lanes": (lane(),),
        "people": (
            Person(name="ada", roles=("export-control",), keys=(signing_key(51).public,)),
            Person(name="bob", keys=(signing_key(52).public,)),
        ),
        "policy_owners": ("ada", "bob"),
    }
    return TrustBundle(**(fields | changes))


def kem_statement(**changes: object) -> KemStatement:
    fields = {"site": EU, "suite": 1, "number": 1, "key": kem_key(1).public, "not_before": AT, "not_after": LATER}
    return KemStatement(**(fields | changes))


def revocation_set(**changes: object) -> RevocationSet:
    fields = {
        "site": US,
        "number": 1,
        "issued": AT,
        "expires": "2026-11-24T13:00:00Z",
        "identities": (RevokedIdentity(identity=AGENT, since="2026-11-24T12:00:01Z", reason="key-stolen"),),
        "signing_keys": (RevokedKey(keyid=signing_key(9).public.keyid, since=AT, reason="retired"),),
        "kem_keys": (RevokedKem(number=1, since=AT, reason="retired"),),
    }
    return RevocationSet(**(fields | changes))


def agent_statement(**changes: object) -> AgentStatement:
    fields = {
        "identity": AGENT,
        "site": US,
        "signing_key": signing_key(1).public,
        "kem_key": kem_key(2).public,
        "owners": ("ada",),
        "not_before": AT,
        "not_after": LATER,
    }
    return AgentStatement(**(fields | changes))
