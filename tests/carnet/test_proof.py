import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from carnet.checkpoint import Checkpoint, log_origin, sign_checkpoint
from carnet.encoding import canonical, encode_base64, parse_json
from carnet.entries import EntryType, LogEvent, commit_event
from carnet.errors import CarnetError, IntegrityError, PeerError
from carnet.merkle import leaf_hash, prove_inclusion, root_of
from carnet.proof import EntryProof, OpeningModel, encode_tlog_proof, parse_tlog_proof, verify_entry_proof
from carnet.statement import parse_model
from tests.carnet.samples import AT, DOMAIN, EU, signing_key

ORIGIN = log_origin(DOMAIN, EU)
KEY = signing_key(1)
INDEX, SIZE = 3, 7
numbers = itertools.count(1)
EVENT = LogEvent(
    EntryType.DECISION_OFFER, AT, {"transfer": "0" * 32, "outcome": "allow", "note": None, "parts": [1, {"a": None}]}
)
COMMITTED = commit_event(EVENT, lambda: bytes([next(numbers)]) * 32)


def tree():
    leaves = [leaf_hash(bytes([number])) for number in range(SIZE)]
    leaves[INDEX] = COMMITTED.leaf_hash
    return leaves


def made(show=None, leaves=None, index=INDEX, key=KEY):
    leaves = leaves or tree()

    def read(level, place):
        return root_of(leaves[place << level : (place + 1) << level])

    checkpoint = sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root_of(leaves)), key).encode()
    return EntryProof.make(COMMITTED, index, prove_inclusion(index, len(leaves), read), checkpoint, show=show)


def verified(proof):
    return verify_entry_proof(proof, log_origin=ORIGIN, key=KEY.public)


def test_an_entry_is_proved_with_all_its_values():
    entry = verified(made())

    assert (entry.index, entry.checkpoint.size, entry.entry.at) == (INDEX, SIZE, AT)
    assert dict(entry.values) == dict(EVENT.fields)
    entry.require(EntryType.DECISION_OFFER, EVENT.fields)


def test_only_what_is_shown_is_known():
    entry = verified(made(show=["outcome"]))

    entry.require(EntryType.DECISION_OFFER, {"outcome": "allow"})
    with pytest.raises(IntegrityError, match="does not show the expected transfer"):
        entry.require(EntryType.DECISION_OFFER, {"transfer": "0" * 32})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (EntryType.DECISION_RELEASE, {}),
        (EntryType.DECISION_OFFER, {"outcome": "deny"}),
        (EntryType.DECISION_OFFER, {"missing": None}),
        (EntryType.DECISION_OFFER, {"parts": [True, {"a": None}]}),
    ],
)
def test_an_entry_that_says_something_else_is_refused(kind, values):
    with pytest.raises(IntegrityError) as caught:
        verified(made()).require(kind, values)

    assert caught.value.code == "E-PROOF"


def test_a_proof_survives_json_and_the_text_form():
    proof = made()

    assert parse_model(EntryProof, proof.encode(), bytes_max=99_999) == proof
    assert EntryProof.model_validate(parse_json(proof.encode(), bytes_max=99_999)) == proof
    assert parse_tlog_proof(encode_tlog_proof(proof)) == proof
    assert encode_tlog_proof(proof).startswith(b"c2sp.org/tlog-proof@v1\nextra ")
    assert encode_tlog_proof(proof).endswith(proof.checkpoint.encode())


def test_a_log_of_one_entry_has_an_empty_proof():
    proof = made(leaves=[COMMITTED.leaf_hash], index=0)

    assert proof.hashes == ()
    assert verified(parse_tlog_proof(encode_tlog_proof(proof))).index == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"index": INDEX + 1},
        {"index": SIZE},
        {"hashes": ()},
        {"hashes": made().hashes[::-1]},
        {"hashes": (*made().hashes, encode_base64(bytes(32)))},
        {"hashes": (encode_base64(bytes(31)), *made().hashes[1:])},
        {"entry": encode_base64(COMMITTED.entry[:-1])},
        {"checkpoint": sign_checkpoint(Checkpoint(ORIGIN, SIZE, bytes(32)), KEY).encode().decode()},
        {"openings": made().openings | {"extra": made().openings["outcome"]}},
        {"openings": {"outcome": made().openings["transfer"]}},
    ],
)
def test_a_changed_proof_proves_nothing(changes):
    with pytest.raises(IntegrityError) as caught:
        verified(made().model_copy(update=changes))

    assert caught.value.code == "E-PROOF"


def test_a_checkpoint_by_another_key_or_log_proves_nothing():
    with pytest.raises(IntegrityError) as caught:
        verified(made(key=signing_key(2)))
    assert caught.value.code == "E-SIGNATURE"
    with pytest.raises(IntegrityError):
        verify_entry_proof(made(), log_origin=log_origin("other.example", EU), key=KEY.public)


def test_something_else_in_the_log_is_no_entry_of_ours():
    leaves = tree()
    leaves[INDEX] = leaf_hash(b"{}")

    with pytest.raises(PeerError):
        verified(made(leaves=leaves).model_copy(update={"entry": encode_base64(b"{}")}))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"@v1", b"@v2"),
        lambda text: text.replace(b"extra ", b"Extra "),
        lambda text: text.replace(b"index 3", b"index 03"),
        lambda text: text.replace(b"index 3\n", b""),
        lambda text: text.replace(b"\n\n", b"\n"),
        lambda text: text.split(b"\n\n")[0],
        lambda text: b"\xff" + text,
        lambda text: text + b"x" * (1 << 20),
        lambda text: text[:0],
    ],
)
def test_another_text_form_is_refused(change):
    with pytest.raises(CarnetError):
        verified(parse_tlog_proof(change(encode_tlog_proof(made()))))


@given(st.data())
@settings(max_examples=100)
def test_a_changed_byte_of_a_proof_never_changes_what_it_proves(data):
    """Either it is refused, or it proves the same entry at the same place (a label outside the signature was changed)."""
    original = encode_tlog_proof(made())
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        entry = verified(parse_tlog_proof(bytes(changed)))
    except CarnetError:
        return

    assert (entry.entry, entry.index) == (verified(made()).entry, INDEX)


def test_a_repr_of_a_proof_shows_no_value():
    assert "allow" not in repr(made())


def test_an_opening_holds_no_float():
    with pytest.raises(ValidationError, match="float"):
        OpeningModel(salt="0" * 64, value=0.5)


def test_extra_data_cannot_replace_the_lines_of_the_text_form():
    extra = encode_base64(canonical({"entry": made().entry, "openings": {}, "index": 4}))
    lines = encode_tlog_proof(made()).decode().split("\n")

    with pytest.raises(PeerError, match="not a c2sp"):
        parse_tlog_proof("\n".join([lines[0], f"extra {extra}", *lines[2:]]).encode())
