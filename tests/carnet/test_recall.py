import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carnet.checkpoint import Checkpoint, log_origin, sign_checkpoint
from carnet.entries import EntryType, LogEvent, commit_event
from carnet.envelope import Envelope, Signature
from carnet.errors import IntegrityError
from carnet.identifiers import SpiffeId
from carnet.keys import SigningKey
from carnet.merkle import root_of
from carnet.proof import EntryProof
from carnet.recall import Recall, RecallCause, verify_recall
from carnet.receipt import ReceiptKind, ReceiptSegments
from tests.carnet.samples import (
    AT,
    DOMAIN,
    EU,
    SITE_KEYS,
    US,
    deleted_receipt,
    deletion,
    digest,
    outcome,
    recall,
    receipt,
    site,
)
from tests.vectors.blocks import read_blocks


def proof_of(said, *, kind=EntryType.TRANSFER_RECALLED, log=US, key=None):
    entry = commit_event(LogEvent(kind, AT, said), lambda: bytes(32))
    head = Checkpoint(log_origin(DOMAIN, log), 1, root_of([entry.leaf_hash]))
    return EntryProof.make(entry, 0, [], sign_checkpoint(head, key or SITE_KEYS[log]).encode())


def said_of(one):
    return {"recall": str(one.digest), "transfer": str(one.transfer)}


def verified(one, proof, *, by=US, key=None):
    return verify_recall(one.sign(key or SITE_KEYS[by]), proof, site=site(by), trust_domain=DOMAIN)


@pytest.mark.parametrize("vector", read_blocks("recall.txt"), ids=lambda vector: vector["name"])
def test_recalls_open_as_the_vectors_say(vector):
    envelope = Envelope(
        Recall.payload_type,
        vector["payload"].encode("ascii"),
        (Signature("", bytes.fromhex(vector["signature"])),),
    )

    opened, code = outcome(lambda: Recall.open(envelope, [SigningKey(bytes(range(32))).public]))

    assert (code or "ok") == vector["expect"]
    assert opened is None or str(opened.digest) == vector["digest"]


def test_a_recall_that_is_signed_and_logged_by_the_site_it_names_is_verified():
    assert verified(recall(), proof_of(said_of(recall()))) == recall()


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        (proof_of(said_of(recall(reason="another"))), "E-PROOF"),
        (proof_of(said_of(recall()) | {"transfer": "f" * 32}), "E-PROOF"),
        (proof_of({"recall": str(recall().digest)}), "E-PROOF"),
        (proof_of(said_of(recall()), kind=EntryType.TRANSFER_ENDED), "E-PROOF"),
        (proof_of(said_of(recall()), log=EU), "E-SIGNATURE"),
        (proof_of(said_of(recall()), key=SITE_KEYS[EU]), "E-SIGNATURE"),
    ],
    ids=["another recall", "another transfer", "transfer not shown", "another event", "another log", "another key"],
)
def test_a_recall_that_its_site_did_not_log_is_refused(proof, code):
    assert outcome(lambda: verified(recall(), proof))[1] in {code, "E-FORMAT"}


def test_no_site_recalls_in_the_name_of_another():
    with pytest.raises(IntegrityError, match="E-SIGNATURE"):
        verified(recall(), proof_of(said_of(recall())), key=SITE_KEYS[EU])
    with pytest.raises(IntegrityError, match="in the name of"):
        verified(recall(), proof_of(said_of(recall()), log=EU), by=EU)


def test_no_recall_is_by_an_identity_of_another_trust_domain():
    strange = recall(by=SpiffeId.make("other.example", US, "agent", "build-1"))

    with pytest.raises(IntegrityError, match="in the name of"):
        verified(strange, proof_of(said_of(strange)))


@pytest.mark.parametrize(
    "changes",
    [
        {"by": SpiffeId.make(DOMAIN, EU, "agent", "build-1")},
        {"tell": (US,)},
        {"tell": (EU, EU)},
        {"reason": ""},
        {"reason": "two\nlines"},
        {"cause": "whim"},
    ],
)
def test_a_recall_that_breaks_a_rule_is_not_made(changes):
    with pytest.raises(ValidationError):
        recall(**changes)


@given(
    cause=st.sampled_from(RecallCause),
    reason=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=1000),
    told=st.sets(st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: name != "us"), max_size=16),
)
def test_every_recall_opens_as_it_was_signed(cause, reason, told):
    made = recall(cause=cause, reason=reason, tell=tuple(sorted(told)))

    assert verified(made, proof_of(said_of(made))) == made


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_signed_recall_is_accepted(place, bit):
    envelope = recall().sign(SITE_KEYS[US])
    payload = bytearray(envelope.payload)
    payload[place % len(payload)] ^= 1 << bit
    changed = Envelope(envelope.payload_type, bytes(payload), envelope.signatures)

    with pytest.raises(IntegrityError, match="E-SIGNATURE"):
        verify_recall(changed, proof_of(said_of(recall())), site=site(US), trust_domain=DOMAIN)


def test_a_deleted_receipt_names_the_recall_and_no_other_receipt_does():
    assert deleted_receipt().deletion.recall == recall().digest
    with pytest.raises(ValidationError, match="and no other"):
        deleted_receipt(deletion=None)
    with pytest.raises(ValidationError, match="and no other"):
        receipt(deletion=deletion())
    with pytest.raises(ValidationError, match="and no other"):
        receipt(kind=ReceiptKind.DELIVERED, decision=digest("decision"), deletion=deletion())


@pytest.mark.parametrize(("count", "others"), [(0, 1), (1, 0)])
def test_what_stays_stays_for_the_sake_of_another_artifact(count, others):
    with pytest.raises(ValidationError, match="another artifact's sake"):
        deletion(kept=ReceiptSegments(count=count, bytes=0), kept_for=others)


def test_a_recall_says_nothing_but_what_its_fields_say():
    assert set(recall().to_json()) == {
        *("v", "site", "transfer", "waybill", "packing", "artifact", "cause", "reason", "by", "tell", "at")
    }
