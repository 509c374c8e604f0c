"""Names of the documents kept beside a transfer, and how to read them back; nobody spells a name twice.

The catalog keeps bytes by name; the types are here. A document that a later step needs and that is missing is a defect of
ours, so reading it raises `InternalError`.
"""

from collections.abc import Iterable

from carnet.encoding import JsonValue, parse_object
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import InternalError
from carnet.identifiers import Digest, SiteName, SpiffeId, TransferId
from carnet.limits import STATEMENT_BYTES_MAX
from carnet.packing import PackingList, SegmentList
from carnet.release import KeyRelease
from carnet.statement import parse_model
from carnet.waybill import Waybill
from gateway.ports import Transaction

RESUME = "resume"
WAYBILL = "waybill"
AGENT_STATEMENT = "agent-statement"
PACKING_LIST = "packing-list"
SEGMENT_LIST = "segment-list"
APPROVAL = "approval/"
RECALL = "recall"
"""The recall by which the transfer was withdrawn at this site, whoever signed it."""
WITHDRAWAL = "withdrawal"
"""What the withdrawal did, as the `deleted` receipt will say it."""
WITHDRAWN_SEGMENTS = "withdrawal-segments"
"""The segments that are still to be deleted from the store."""


DECISION_INPUTS = "decision-inputs/"
"""Before the gate and the party: the names under which it is kept what policy was asked."""


def release_name(recipient: SpiffeId) -> str:
    """Return the name of the key release to `recipient`."""
    return f"release/{recipient}"


def decision_name(gate: str, party: str) -> str:
    """Return the name of the decision at `gate` for a destination or a consumer."""
    return f"decision/{gate}/{party}"


def decision_inputs_name(gate: str, party: str) -> str:
    """Return the name of what policy was asked for that decision."""
    return f"{DECISION_INPUTS}{gate}/{party}"


def decision_index_name(gate: str, party: str) -> str:
    """Return the name under which the decision's log index is kept, as decimal text."""
    return f"decision-index/{gate}/{party}"


def told_recheck_name(site: SiteName) -> str:
    """Return the name of the decision at `recheck` by which `site`, a destination, put away what it had delivered."""
    return f"told-recheck/{site}"


def released_under_name(party: str) -> str:
    """Return the name of what policy was asked when the key was last let go to `party`, if there were groups in it."""
    return f"released-under/{party}"


def hold_name(gate: str, party: str) -> str:
    """Return the name of the last decision at `gate` that holds for approvals; later decisions do not replace it."""
    return f"hold/{gate}/{party}"


def hold_index_name(gate: str, party: str) -> str:
    """Return the name under which that hold's log index is kept, as decimal text."""
    return f"hold-index/{gate}/{party}"


def hold_begun_name(gate: str, party: str) -> str:
    """Return the name under which it is kept when that hold began to wait, if rules of the policy end it."""
    return f"hold-begun/{gate}/{party}"


def reviewed_name(person: str) -> str:
    """Return the name under which it is kept that a person reviewed the transfer."""
    return f"reviewed/{person}"


def approval_name(request: Digest, person: str) -> str:
    """Return the name of a person's approval of a request: there is at most one. Without a person, the prefix of them all."""
    return f"{APPROVAL}{request}/{person}"


def key_sent_name(destination: str) -> str:
    """Return the name of the document that says that a sending of the key was begun: the index of its log entry."""
    return f"key-released/{destination}"


def rewraps_name(destination: str) -> str:
    """Return the name of the number of times that the key was wrapped again for a destination."""
    return f"rewraps/{destination}"


def key_refused_name(decision: Digest) -> str:
    """Return the name of the document that says why a key that came with this release decision was not used."""
    return f"key-refused/{decision}"


def proof_name(what: str, site: SiteName) -> str:
    """Return the name of the log proof that a peer gave for a decision or receipt; an auditor finds it beside the document."""
    return f"proof/{what}/{site}"


def receipt_name(kind: str, site: SiteName) -> str:
    """Return the name of a receipt of `site`."""
    return f"receipt/{kind}/{site}"


def receipt_index_name(kind: str, site: SiteName) -> str:
    """Return the name under which the index of our own receipt's log entry is kept."""
    return f"receipt-index/{kind}/{site}"


def recall_to_name(site: SiteName) -> str:
    """Return the name of the recall that this site sends, or sent, to `site`."""
    return f"recall-to/{site}"


def recall_index_name(site: SiteName) -> str:
    """Return the name under which the index of our log entry about the recall to `site` is kept."""
    return f"recall-index/{site}"


def recall_by_name(site: SiteName) -> str:
    """Return the name of a recall that `site`, a destination, sent for itself."""
    return f"recall-by/{site}"


def recall_told_name(site: SiteName) -> str:
    """Return the name of the time at which `site` took our message about a recall."""
    return f"recall-told/{site}"


def recall_acknowledged_name(site: SiteName) -> str:
    """Return the name of the time at which the `deleted` receipt of `site` was here."""
    return f"recall-acknowledged/{site}"


def recalled_unknown_name(transfer: TransferId, what: str) -> str:
    """Return the name of a document of the site about a recalled transfer that never came: `recall`, `receipt`, `index`."""
    return f"recalled/{transfer}/{what}"


def need(transaction: Transaction, transfer: TransferId, name: str) -> bytes:
    """Return the document; raise `InternalError` E-INTERNAL if it is not there."""
    body = transaction.document(transfer, name)
    if body is None:
        raise InternalError("E-INTERNAL", f"transfer {transfer} has no {name}")
    return body


def read_envelope(body: bytes) -> Envelope:
    """Return the envelope kept as `body`."""
    return parse_envelope(body)


def envelope_json(body: bytes) -> dict[str, JsonValue]:
    """Return the envelope kept as `body` as the JSON that messages carry."""
    return parse_object(body, bytes_max=4 * STATEMENT_BYTES_MAX)


def read_release(body: bytes) -> KeyRelease:
    """Return the key release kept as `body`."""
    return parse_model(KeyRelease, body, bytes_max=STATEMENT_BYTES_MAX)


def read_waybill(transaction: Transaction, transfer: TransferId) -> Waybill:
    """Return the waybill of a committed transfer; its signature was verified when it was accepted."""
    return Waybill.read_unverified(read_envelope(need(transaction, transfer, WAYBILL)))


def read_packing(transaction: Transaction, transfer: TransferId) -> PackingList:
    """Return the packing list of a committed transfer; its signature was verified when it was accepted."""
    return PackingList.read_unverified(read_envelope(need(transaction, transfer, PACKING_LIST)))


def read_segment_list(transaction: Transaction, transfer: TransferId) -> SegmentList:
    """Return the segment list of a committed transfer."""
    return SegmentList.parse(need(transaction, transfer, SEGMENT_LIST))


def segments_to_hold(packing: PackingList, segments: SegmentList) -> Iterable[tuple[str, int]]:
    """Yield id and size of everything a site must hold: the pages of the index, then the segments."""
    for page in packing.index:
        yield page.id, page.size
    yield from segments
